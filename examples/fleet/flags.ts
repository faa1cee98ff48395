// The command line.

import { parseFlags, wholeNumber } from '../command-line.js';

export interface Flags {
  seconds: number;
  flood: number;
  help: boolean;
}

export const HELP = `Four relays share one limit through a store, while one peer floods all of them.

usage: npm run demo:fleet -- [flags]

  --seconds N   how long, 4 to 120 (default 18); the store is stopped for a fifth of it in the middle
  --flood N     messages a second of that peer in all, 100 to 5000 (default 2000)
  --help        this text

The store is a redis-server or valkey-server of its own, on a free port of this machine. With
REDIS_URL set it is that one, which is not stopped.

All four together must admit no more than burst + rate x time, in any interval, with the store, without
it and after it has lost everything, and go on admitting: then it exits with 0, else, or if something
broke, with 1; with 2 for a wrong flag. A relay that cannot reach the store while others can goes on with
a quarter of the rate, which may come on top: the summary says how much that is at most.`;

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
