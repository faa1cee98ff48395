// The flags of `npm run demo:fleet`.

import { parseFlags, wholeNumber } from '../command-line.js';

export interface Flags {
  seconds: number;
  flood: number;
  help: boolean;
}

export const HELP = `Four relays share one limit through a store, while one peer floods all of them.

usage: npm run demo:fleet -- [flags]

  --seconds N   duration, 4 to 120 (default 18); the store is stopped for a fifth of it in the middle
  --flood N     messages per second of that peer in all, 100 to 5000 (default 2000)
  --help        print this text

The store is a new redis-server or valkey-server on a free port of this machine. If REDIS_URL is
set, the demo uses that store and does not stop it.

All four relays together must admit at most burst + rate x time in any interval: with the store,
without it, and after it has lost all data. They must also continue to admit messages. Exit code:
0 if so; 1 if not, or after an error; 2 for a wrong flag. A relay that cannot reach the store while
others can continues with a quarter of the rate, which may exceed the bound. The summary shows the
maximum of this excess.`;

/** @throws WrongFlag */
export function readFlags(args: string[]): Flags {
  const { seconds, flood, help } = parse(args);
  return {
    seconds: wholeNumber('--seconds', seconds, 4, 120),
    flood: wholeNumber('--flood', flood, 100, 5000),
    help,
  };
}

function parse(args: string[]) {
  return parseFlags(args, {
    seconds: { type: 'string', default: '18' },
    flood: { type: 'string', default: '2000' },
    help: { type: 'boolean', short: 'h', default: false },
  });
}
