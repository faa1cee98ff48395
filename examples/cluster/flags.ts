// The flags of `npm run demo:cluster`.

import { parseFlags, wholeNumber } from '../command-line.js';

export interface Flags {
  seconds: number;
  flood: number;
  help: boolean;
}

export const HELP = `Four processes of node:cluster share one limit in memory, while one peer floods all of them.

usage: npm run demo:cluster -- [flags]

  --seconds N   duration of each of two runs, 2 to 60 (default 8)
  --flood N     messages per second of that peer in all, 100 to 20000 (default 4000)
  --help        print this text

In the first run the limiters of all processes have the option \`shared\`: together they must admit
at most burst + rate x time in any interval. In the second run they do not, so each has a limit of
its own. In the middle of each run one process is killed with SIGKILL and replaced.

Exit code: 0 if the shared limit held; 1 if not, or after an error; 2 for a wrong flag.`;

/** @throws WrongFlag */
export function readFlags(args: string[]): Flags {
  const { seconds, flood, help } = parse(args);
  return {
    seconds: wholeNumber('--seconds', seconds, 2, 60),
    flood: wholeNumber('--flood', flood, 100, 20_000),
    help,
  };
}

function parse(args: string[]) {
  return parseFlags(args, {
    seconds: { type: 'string', default: '8' },
    flood: { type: 'string', default: '4000' },
    help: { type: 'boolean', short: 'h', default: false },
  });
}
