// The live table of the workers.

import type { RateLimiter } from 'relay-limiter';
import { type Columns, count, draw, table } from '../live-table.js';
import type { Place } from './workers.js';

const COLUMNS: Columns = [
  ['worker', 6],
  ['process', 9],
  ['admitted', 9],
  ['refused', 9],
  ['', 8],
];

/** Draws the table until the returned function is called. `shared` is the shared table, if there is one. */
export function watch(
  output: NodeJS.WriteStream,
  title: () => string,
  places: readonly Place[],
  shared: RateLimiter | undefined,
): () => void {
  return draw(output, () => [title(), ...table(COLUMNS, rows(places)), tableLine(shared)]);
}

function rows(places: readonly Place[]): string[][] {
  const sum = (field: 'admitted' | 'refused') =>
    places.reduce((total, place) => total + place[field], 0);
  return [
    ...places.map(({ pid, admitted, refused, state }, at) => [
      `${at + 1}`,
      `${pid}`,
      count(admitted),
      count(refused),
      state,
    ]),
    ['all', '', count(sum('admitted')), count(sum('refused')), ''],
  ];
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
