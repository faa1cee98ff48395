// The command line of `npm run simulate -- peers`.

import { parseFlags, WrongFlag, wholeNumber } from '../command-line.js';
import { PROGRAMS, type Program } from './programs.js';

export interface Flags {
  readonly programs: readonly Program[];
  /** The seed of the times that requests and answers need. */
  readonly seed: number;
  /** Whether relay-limiter runs without the others. */
  readonly isAlone: boolean;
}

/** @throws WrongFlag */
export function readFlags(args: string[]): Flags {
  const given = parseFlags(args, {
    program: { type: 'string', default: '' },
    seed: { type: 'string', default: '1' },
    alone: { type: 'boolean', default: false },
  });
  const wanted = given.program.toLowerCase();
  const programs = PROGRAMS.filter(({ name }) => name.toLowerCase().includes(wanted));
  if (programs.length === 0) {
    const names = PROGRAMS.map(({ name }) => name).join('; ');
    throw new WrongFlag(`--program takes a part of one of these names: ${names}`);
  }
  return { programs, seed: wholeNumber('--seed', given.seed, 1, 1e9), isAlone: given.alone };
}
