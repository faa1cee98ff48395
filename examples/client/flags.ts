// The command line.

import { parseArgs } from 'node:util';

export interface Flags {
  requests: number;
  help: boolean;
}

export const HELP = `Three servers with limits of their own, and two clients that ask them for the same.

usage: npm run demo:client -- [flags]

  --requests N   pieces of work for each client, 1 to 10000 (default 3000)
  --help         this text

The client with relay-limiter must meet no 429 from servers that say what they allow, and at most
one from the server that does not: then it exits with 0, else, or if something broke, with 1; with
2 for a wrong flag.`;

/** A flag that is not accepted. */
export class WrongFlag extends Error {}

/** @throws WrongFlag */
export function readFlags(args: string[]): Flags {
  const { requests, help } = parse(args);
  const count = Number(requests);
  if (!/^\d+$/.test(requests) || count < 1 || count > 10_000) {
    throw new WrongFlag(`--requests takes a whole number from 1 to 10000, not "${requests}"`);
  }
  return { requests: count, help };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        requests: { type: 'string', default: '3000' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values;
  } catch (error) {
    // Node adds advice after the first sentence.
    throw new WrongFlag(String((error as Error).message).split(/[.\n]/)[0]);
  }
}
