// `npm run simulate`: six hours of endless demand under four policies, one line a strategy.

import { type Outcome, simulate } from './simulate.js';
import { STRATEGIES } from './strategies.js';

const COLUMNS: readonly [head: string, cell: (outcome: Outcome) => string][] = [
  ['strategy', ({ name }) => name],
  ['sent', ({ sent }) => String(sent)],
  ['first 10 min', ({ firstTenMinutes }) => String(firstTenMinutes)],
  ['longest gap', ({ longestGap }) => seconds(longestGap)],
  ['gaps > 5 s', ({ inLongGaps }) => seconds(inLongGaps)],
  ['refused: fixed', ({ refused }) => String(refused.fixed)],
  ['sliding', ({ refused }) => String(refused.sliding)],
  ['bucket', ({ refused }) => String(refused.bucket)],
];

function seconds(value: number): string {
  return `${value > 0 && value < 10 ? value.toFixed(1) : value.toFixed(0)} s`;
}

console.log(
  '240 in 60 s, 1800 in 600 s, 9000 in 3600 s and 21600 in 10800 s; six hours, at most 20',
);
console.log(
  'requests a second. Refused: by a server of fixed windows (of 16 phases the worst), of',
);
console.log('sliding windows, of token buckets.\n');

const outcomes = STRATEGIES.map(simulate);
const rows = [
  COLUMNS.map(([head]) => head),
  ...outcomes.map((outcome) => COLUMNS.map(([, cell]) => cell(outcome))),
];
const widths = COLUMNS.map((_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)));
for (const row of rows) {
  const [name = '', ...cells] = row.map((cell, at) =>
    at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0),
  );
  console.log([name, ...cells].join('  '));
}
