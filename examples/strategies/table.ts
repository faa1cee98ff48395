// Formats the results of the strategies as aligned text.

import type { Outcome } from './simulate.js';

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

const HEAD = `\
240 in 60 s, 1800 in 600 s, 9000 in 3600 s and 21600 in 10800 s; six hours, at most 20
requests a second. Refused: by a server of fixed windows (of 16 phases the worst), of
sliding windows, of token buckets.`;

export function table(outcomes: readonly Outcome[]): string {
  const rows = [
    COLUMNS.map(([head]) => head),
    ...outcomes.map((outcome) => COLUMNS.map(([, cell]) => cell(outcome))),
  ];
  const widths = COLUMNS.map((_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)));
  const lines = rows.map(([name = '', ...cells]) => {
    const padded = cells.map((cell, at) => cell.padStart(widths[at + 1] ?? 0));
    return [name.padEnd(widths[0] ?? 0), ...padded].join('  ');
  });
  return `${HEAD}\n\n${lines.join('\n')}`;
}

function seconds(value: number): string {
  return `${value > 0 && value < 10 ? value.toFixed(1) : value.toFixed(0)} s`;
}
