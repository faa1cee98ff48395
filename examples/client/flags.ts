// The flags of `npm run demo:client`.

import { parseFlags, wholeNumber } from '../command-line.js';

export interface Flags {
  /** Undefined: servers and work are scaled to the machine. */
  requests: number | undefined;
  help: boolean;
}

export const HELP = `Three servers with different limits, and two clients that send them the same requests.

usage: npm run demo:client -- [flags]

  --requests N   pieces of work for each client, 1 to 10000. Without it the machine is measured, and
                 servers and work are scaled to it, to at most 3000 requests
  --help         print this text

The client with relay-limiter must get no 429 from servers that send their limits in headers, and
at most one from the server that does not. Exit code: 0 if so; 1 if not, or after an error; 2 for a
wrong flag.`;

/** @throws WrongFlag */
export function readFlags(args: string[]): Flags {
  const { requests, help } = parse(args);
  return {
    requests: requests === undefined ? undefined : wholeNumber('--requests', requests, 1, 10_000),
    help,
  };
}

function parse(args: string[]) {
  return parseFlags(args, {
    requests: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  });
}
