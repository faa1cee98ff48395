// `npm run simulate -- peers`: relay-limiter and other packages with programs of well known APIs, in virtual time.

import { CONTENDERS } from './contenders.js';
import { PROGRAMS } from './programs.js';
import { type Outcome, simulate } from './simulate.js';
import { table } from './table.js';

const results = [];
for (const program of PROGRAMS) {
  const outcomes: Outcome[] = [];
  for (const contender of CONTENDERS) outcomes.push(await simulate(program, contender));
  results.push({ program, outcomes });
}
console.log(table(results));
