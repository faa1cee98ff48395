// The flags of `npm run soak`.

import type { EngineName } from 'relay-limiter';
import { parseFlags, WrongFlag, wholeNumber } from '../examples/command-line.js';

export interface Flags {
  seconds: number;
  /** The number of operations after which the run ends; if given, `seconds` is ignored. */
  operations: number | undefined;
  seed: number;
  round: number | undefined;
  engines: readonly EngineName[];
  floodSeconds: number;
  help: boolean;
}

export const HELP = `Makes hostile calls to all four limiters and compares every answer with a reference model.

usage: npm run soak -- [flags]

  --seconds N      seconds after the flood, 1 to 1000000 (default 600); at least one round
  --operations N   number of operations instead, 1 to 1000000000000
  --engine NAME    both, native or js (default both)
  --flood N        simulated seconds of the key flood at the start, 0 to 86400 (default 3600); the
                   process's memory after its first minute is compared with that at its end
  --seed N         seed of the random numbers, 0 to 4294967295 (default: random)
  --round N        run only this round of the seed, without a flood
  --help           print this text

Exit code: 0; 1 on a difference or if memory grew, with the seed and the last operations; 2 for a
wrong flag. Ctrl-C ends the run early and prints the summary. A repeated round makes the same calls.
Which records a full table evicts, and where a budget ends a cleanup, is not reproducible.`;

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
