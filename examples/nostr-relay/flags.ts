// The flags of `npm run demo:nostr`.

import { fileURLToPath } from 'node:url';
import type { EngineName } from 'relay-limiter';
import { parseFlags, WrongFlag, wholeNumber } from '../command-line.js';

export interface Flags {
  port: number;
  config: string;
  workers: number;
  log: string | undefined;
  engine: EngineName | 'auto' | undefined;
  trustedProxies: string | undefined;
  serverOnly: boolean;
  seconds: number;
  help: boolean;
}

/** The file of the sources; this module is compiled to out/examples/nostr-relay. */
const LIMITS = new URL('../../../examples/nostr-relay/limits.json', import.meta.url);

export const HELP = `A Nostr relay with the limits of a public one, under load: honest authors and one flooder.

usage: npm run demo:nostr -- [flags]

  --port N          port of the relay on 127.0.0.1 (default 0: a free port)
  --config FILE     the limits (default examples/nostr-relay/limits.json)
  --workers N       processes of the relay, 1 to 64, with one port, one table of limits and the same
                    events (default 1). One that ends is replaced
  --log FILE        appends each check that was admitted: its time, keys, cost and action, as JSON
  --engine NAME     auto, native or js (default: RELAY_LIMITER_ENGINE, else auto)
  --trusted-proxies LIST  addresses and networks of proxies, whose X-Forwarded-For names the client
                    (default: none; loopback for the load, whose clients need different addresses)
  --server-only     run only the relay, without load, until Ctrl-C
  --seconds N       length of the load, 2 to 60 (default 8)
  --help            print this text

SIGHUP, to any of the processes, reads the limits again while the relay runs, for all of them. If the file is wrong, the old limits stay and
the error is printed. Each line of the table is one kind of refusal in one second.

Honest authors must lose nothing, and the flooder must be banned. Exit code: 0 if so; 1 if not, or
after an error; 2 for a wrong flag.`;

/** @throws WrongFlag */
export function readFlags(args: string[]): Flags {
  const values = parseFlags(args, {
    port: { type: 'string', default: '0' },
    config: { type: 'string', default: fileURLToPath(LIMITS) },
    workers: { type: 'string', default: '1' },
    log: { type: 'string' },
    engine: { type: 'string' },
    'trusted-proxies': { type: 'string' },
    'server-only': { type: 'boolean', default: false },
    seconds: { type: 'string', default: '8' },
    help: { type: 'boolean', short: 'h', default: false },
  });
  return {
    port: wholeNumber('--port', values.port, 0, 65_535),
    config: values.config,
    workers: wholeNumber('--workers', values.workers, 1, 64),
    log: values.log,
    engine: engineOf(values.engine),
    trustedProxies: values['trusted-proxies'],
    serverOnly: values['server-only'],
    seconds: wholeNumber('--seconds', values.seconds, 2, 60),
    help: values.help,
  };
}

function engineOf(text: string | undefined): Flags['engine'] {
  if (text === undefined || text === 'auto' || text === 'native' || text === 'js') return text;
  throw new WrongFlag(`--engine takes auto, native or js, not "${text}"`);
}
