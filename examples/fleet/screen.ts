// The live table of the relays.

import { type Columns, count, draw, table } from '../live-table.js';
import type { Counts } from './messages.js';

const COLUMNS: Columns = [
  ['relay', 6],
  ['admitted', 9],
  ['refused', 9],
  ['store calls', 11],
  ['on lease', 8],
  ['store', 5],
];
const NUMBERS = ['admitted', 'refused', 'calls', 'leased'] as const;

/** Draws the table until the returned function is called. */
export function watch(
  output: NodeJS.WriteStream,
  title: () => string,
  counts: readonly Counts[],
): () => void {
  return draw(output, () => [title(), ...table(COLUMNS, rows(counts))]);
}

function rows(counts: readonly Counts[]): string[][] {
  const sums = NUMBERS.map((name) => counts.reduce((total, one) => total + one[name], 0));
  return [
    ...counts.map((one, at) => [
      `${at + 1}`,
      ...NUMBERS.map((name) => count(one[name])),
      one.store,
    ]),
    ['all', ...sums.map(count), ''],
  ];
}
