// The command line.

import type { EngineName } from 'relay-limiter';
import { parseFlags, WrongFlag, wholeNumber } from '../examples/command-line.js';

export interface Flags {
  seconds: number;
  /** Ends it instead of `seconds`, where given. */
  operations: number | undefined;
  seed: number;
  round: number | undefined;
  engines: readonly EngineName[];
  floodSeconds: number;
  help: boolean;
}

export const HELP = `Hostile calls on all three limiters, beside a reference model that every answer must agree with.

usage: npm run soak -- [flags]

  --seconds N      how long after the flood, 1 to 1000000 (default 600); one round at least
  --operations N   how many operations instead, 1 to 1000000000000
  --engine NAME    both, native or js (default both)
  --flood N        first a key flood of so many simulated seconds, 0 to 86400 (default 3600); the
                   memory of the process after a minute of it is compared with that at its end
  --seed N         random numbers, 0 to 4294967295 (default: another one each time)
  --round N        only this round of the seed; no flood
  --help           this text

Exits with 0; on a difference, or if memory grew, with 1, the seed and the last operations; with 2 for
a wrong flag. Ctrl-C ends it early, with the summary. A repeated round does the same operations. Which
records a full table gives up, and where a budget ends a cleanup, is chance.`;

/** @throws WrongFlag */
export function readFlags(args: string[]): Flags {
  const { seconds, operations, engine, flood, seed, round, help } = parse(args);
  const anySeed = String(Math.floor(Math.random() * 2 ** 32));
  return {
    seconds: wholeNumber('--seconds', seconds, 1, 1_000_000),
    operations:
      operations === undefined ? undefined : wholeNumber('--operations', operations, 1, 1e12),
    engines: enginesOf(engine),
    floodSeconds: wholeNumber('--flood', flood, 0, 86_400),
    seed: wholeNumber('--seed', seed ?? anySeed, 0, 2 ** 32 - 1),
    round: round === undefined ? undefined : wholeNumber('--round', round, 0, 2 ** 32 - 1),
    help,
  };
}

function parse(args: string[]) {
  return parseFlags(args, {
    seconds: { type: 'string', default: '600' },
    operations: { type: 'string' },
    engine: { type: 'string', default: 'both' },
    flood: { type: 'string', default: '3600' },
    seed: { type: 'string' },
    round: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  });
}

function enginesOf(name: string): readonly EngineName[] {
  if (name === 'both') return ['native', 'js'];
  if (name === 'native' || name === 'js') return [name];
  throw new WrongFlag(`--engine takes both, native or js, not "${name}"`);
}
