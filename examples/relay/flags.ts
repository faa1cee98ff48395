// The flags of `npm start`.

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
  picture: string | undefined;
  help: boolean;
}

export const HELP = `A WebSocket relay under attack, first without limits, then guarded by relay-limiter.

usage: npm start -- [flags]

  --peers N        honest peers, 2 to 40 (default 12)
  --seconds N      length of each of the two phases, 1 to 9 (default 7)
  --engine NAME    auto, native or js (default: RELAY_LIMITER_ENGINE, else auto)
  --port N         port of the relay on 127.0.0.1 (default 0: a free port)
  --one-address    all peers connect from 127.0.0.1, as behind Tor or a proxy: a ban of the
                   attackers' address also refuses honest newcomers. By default peers have
                   different addresses if the system supports it (Linux does, macOS does not)
  --server-only    run only the guarded relay, without peers, until Ctrl-C
  --dashboard-port N  port of the guarded relay's dashboard on 127.0.0.1 (default 9465);
                   a free port if it is in use, or for 0
  --keep           keep the guarded relay and its dashboard running after the attack, until Ctrl-C
  --picture FILE   write a picture of both phases, as SVG
  --help           print this text

With the guard on, honest peers must lose nothing and be served clearly faster, and every attacker
must be stopped. Exit code: 0 if so; 1 if not, or after an error; 2 for a wrong flag.`;

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
    picture: values.picture,
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
    picture: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  });
}

function engine(text: string | undefined): Engine {
  if (text === undefined || text === 'auto' || text === 'native' || text === 'js') return text;
  throw new WrongFlag(`--engine takes auto, native or js, not "${text}"`);
}
