// The live table: redrawn in place on a terminal, printed at intervals elsewhere.

import type { RateLimiter } from 'relay-limiter';
import type { Place } from './workers.js';

const COLUMNS: readonly [head: string, width: number][] = [
  ['worker', 6],
  ['process', 9],
  ['admitted', 9],
  ['refused', 9],
  ['', 8],
];

/** Draws the table until the returned function is called. `table` is the shared table, if there is one. */
export function watch(
  output: NodeJS.WriteStream,
  title: () => string,
  places: readonly Place[],
  table: RateLimiter | undefined,
): () => void {
  const lines = () => [title(), ...rows(places), tableLine(table)];
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

function rows(places: readonly Place[]): string[] {
  const sum = (field: 'admitted' | 'refused') =>
    places.reduce((total, place) => total + place[field], 0);
  return [
    COLUMNS.map(([head]) => head),
    ...places.map(({ pid, admitted, refused, state }, at) => [
      `${at + 1}`,
      `${pid}`,
      count(admitted),
      count(refused),
      state,
    ]),
    ['all', '', count(sum('admitted')), count(sum('refused')), ''],
  ].map(line);
}

/** What any process can read in the table: the totals of the whole machine, without asking another process. */
function tableLine(table: RateLimiter | undefined): string {
  if (table === undefined) return '  each worker has a table of its own';
  const { verdicts, topViolators } = table.getStats();
  const [[key, violations] = ['nobody', 0]] = topViolators;
  // The demonstration itself has joined to read it.
  const attached = (table.shared?.attached ?? 1) - 1;
  return (
    `  the table in memory: ${count(verdicts.allow)} admitted, ${count(verdicts.delay)} refused, ` +
    `${count(violations)} violations of ${key}${attached > 0 ? `, ${attached} workers` : ''}`
  );
}

function line(row: readonly string[]): string {
  const padded = row.map((cell, at) => {
    const width = COLUMNS[at]?.[1] ?? 0;
    return at === 0 || at === row.length - 1 ? cell.padEnd(width) : cell.padStart(width);
  });
  return `  ${padded.join('  ')}`.trimEnd();
}

function count(number: number): string {
  return number.toLocaleString('en-US');
}
