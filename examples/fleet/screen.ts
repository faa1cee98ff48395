// The live table: redrawn in place on a terminal, printed at intervals elsewhere.

import type { Counts } from './messages.js';

const COLUMNS: readonly [head: string, width: number][] = [
  ['relay', 6],
  ['admitted', 9],
  ['refused', 9],
  ['store calls', 11],
  ['on lease', 8],
  ['store', 5],
];

/** Draws the table until the returned function is called. */
export function watch(
  output: NodeJS.WriteStream,
  title: () => string,
  counts: readonly Counts[],
): () => void {
  const lines = () => [title(), ...table(counts)];
  const height = lines().length;
  const draw = () => output.write(`${lines().join('\n')}\n`);
  draw();
  const redraw = () => {
    if (output.isTTY) output.write(`\x1b[${height}A\x1b[J`);
    draw();
  };
  const timer = setInterval(redraw, output.isTTY ? 200 : 3000);
  return () => {
    clearInterval(timer);
    redraw();
    output.write('\n');
  };
}

function table(counts: readonly Counts[]): string[] {
  const rows = counts.map((one, at) => [`${at + 1}`, ...cells(one), one.store]);
  const sum = (field: 'admitted' | 'refused' | 'calls' | 'leased') =>
    counts.reduce((total, one) => total + one[field], 0);
  const all = cells({
    admitted: sum('admitted'),
    refused: sum('refused'),
    calls: sum('calls'),
    leased: sum('leased'),
  });
  return [COLUMNS.map(([head]) => head), ...rows, ['all', ...all, '']].map(line);
}

function cells(counts: Pick<Counts, 'admitted' | 'refused' | 'calls' | 'leased'>): string[] {
  const { admitted, refused, calls, leased } = counts;
  return [admitted, refused, calls, leased].map((count) => count.toLocaleString('en-US'));
}

function line(row: readonly string[]): string {
  const padded = row.map((cell, at) => {
    const width = COLUMNS[at]?.[1] ?? 0;
    return at === 0 ? cell.padEnd(width) : cell.padStart(width);
  });
  return `  ${padded.join('  ')}`.trimEnd();
}
