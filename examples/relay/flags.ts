// The command line.

import { parseFlags, WrongFlag, wholeNumber } from '../command-line.js';
import type { Engine } from './demo/messages.js';

export interface Flags {
  peers: number;
  seconds: number;
  engine: Engine;
  port: number;
  oneAddress: boolean;
  serverOnly: boolean;
  dashboardPort: number;
  keep: boolean;
  help: boolean;
}

export const HELP = `A WebSocket relay under attack, first without limits, then guarded by relay-limiter.

usage: npm start -- [flags]

  --peers N        honest peers, 2 to 40 (default 12)
  --seconds N      length of each of the two phases, 1 to 9 (default 7)
  --engine NAME    auto, native or js (default: RELAY_LIMITER_ENGINE, else auto)
  --port N         port of the relay on 127.0.0.1; 0, the default, takes a free one
  --one-address    everybody connects from 127.0.0.1, as behind Tor or a proxy: a ban of the
                   attackers' address keeps honest newcomers out, too. Otherwise each connects
                   from an address of its own, where the system has them (Linux; macOS has not)
  --server-only    only the guarded relay, without peers, until Ctrl-C
  --dashboard-port N  where the guarded relay shows what it does, on 127.0.0.1 (default 9465);
                   a free one where that is taken, and for 0
  --keep           the guarded relay and its page run on after the attack, until Ctrl-C
  --help           this text

With the guard on, honest peers must lose nothing and be served clearly faster, and every attacker
must be stopped: then it exits with 0, else, or if something broke, with 1; with 2 for a wrong flag.`;

/** @throws WrongFlag */
export function readFlags(args: string[]): Flags {
  const values = parse(args);
  return {
    peers: wholeNumber('--peers', values.peers, 2, 40),
    seconds: wholeNumber('--seconds', values.seconds, 1, 9),
    engine: engine(values.engine),
    port: wholeNumber('--port', values.port, 0, 65_535),
    oneAddress: values['one-address'],
    serverOnly: values['server-only'],
    dashboardPort: wholeNumber('--dashboard-port', values['dashboard-port'], 0, 65_535),
    keep: values.keep,
    help: values.help,
  };
}

function parse(args: string[]) {
  return parseFlags(args, {
    peers: { type: 'string', default: '12' },
    seconds: { type: 'string', default: '7' },
    engine: { type: 'string' },
    port: { type: 'string', default: '0' },
    'one-address': { type: 'boolean', default: false },
    'server-only': { type: 'boolean', default: false },
    'dashboard-port': { type: 'string', default: '9465' },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  });
}

function engine(text: string | undefined): Engine {
  if (text === undefined || text === 'auto' || text === 'native' || text === 'js') return text;
  throw new WrongFlag(`--engine takes auto, native or js, not "${text}"`);
}
