// The command line.

import { parseFlags, wholeNumber } from '../command-line.js';

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

/** @throws WrongFlag */
export function readFlags(args: string[]): Flags {
  const { requests, help } = parse(args);
  return { requests: wholeNumber('--requests', requests, 1, 10_000), help };
}

function parse(args: string[]) {
  return parseFlags(args, {
    requests: { type: 'string', default: '3000' },
    help: { type: 'boolean', short: 'h', default: false },
  });
}
