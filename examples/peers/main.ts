// `npm run simulate -- peers`: relay-limiter and other packages with programs of well known APIs, in virtual time.

import { failed } from '../command-line.js';
import { contendersFor } from './contenders.js';
import { readFlags } from './flags.js';
import { type Outcome, simulate } from './simulate.js';
import { table } from './table.js';

const HELP = 'npm run simulate -- peers [--program name] [--seed number] [--alone]';

try {
  const args = process.argv.slice(2).filter((argument) => argument !== 'peers');
  const { programs, seed, isAlone } = readFlags(args);
  const results = [];
  for (const program of programs) {
    const outcomes: Outcome[] = [];
    const contenders = contendersFor(program);
    for (const contender of isAlone ? contenders.slice(0, 1) : contenders) {
      outcomes.push(await simulate(program, contender, seed));
    }
    results.push({ program, outcomes });
  }
  console.log(table(results));
} catch (error) {
  process.exitCode = failed('simulate', HELP, error);
}
