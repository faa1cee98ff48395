// Formats results as aligned text.

import { type Case, type Metric, NO_PEERS } from './cases/case.js';
import { MAP } from './contestants.js';
import { type Result, type Spread, timesAsGood } from './results.js';

/** Formats a case at one size, one line per contestant. */
export function textTable(benchCase: Case, peers: number, results: Result[]): string {
  const [main, ...others] = benchCase.metrics as [Metric, ...Metric[]];
  const { baseline = MAP } = benchCase;
  const base = results.find(({ contestant }) => contestant === baseline);
  const head = [
    '',
    `${main.label}, ${main.unit}`,
    'lowest - highest',
    base ? `against ${baseline === MAP ? 'the Map' : baseline}` : '',
    ...others.map(({ label, unit }) => `${label}, ${unit}`),
  ];
  const rows = results.map((result) => {
    const { contestant, figures, note } = result;
    const figure = figures[main.name];
    if (figure === undefined) return [contestant, note ?? ''];
    return [
      contestant,
      number(figure.median),
      `${number(figure.low)} - ${number(figure.high)}`,
      ratio(base?.figures[main.name], figure),
      ...others.map(({ name }) => number(figures[name]?.median)),
    ];
  });
  return `${benchCase.title}${atPeers(peers)}\n${aligned([head, ...rows])}`;
}

/** Formats a number with three significant digits. */
export function number(value: number | null | undefined): string {
  // JSON stores NaN as null.
  if (value === undefined || value === null || Number.isNaN(value)) return '-';
  if (value >= 100) return Math.round(value).toLocaleString('en');
  return value.toFixed(value >= 10 ? 1 : value >= 1 ? 2 : 3);
}

/** Formats the factor by which `own` is better than `theirs`. */
export function ratio(theirs: Spread | undefined, own: Spread | undefined): string {
  if (theirs === undefined || own === undefined) return '';
  const times = timesAsGood(theirs, own);
  if (Number.isNaN(times)) return '';
  if (times === Infinity) return '∞';
  return `${times.toFixed(times >= 10 ? 0 : 2)}x`;
}

function aligned(rows: string[][]): string {
  const complete = rows.filter((row) => row.length > 2);
  const widths = (rows[0] ?? []).map((_, i) =>
    Math.max(...complete.map((row) => row[i]?.length ?? 0)),
  );
  const nameWidth = Math.max(...rows.map(([name]) => name?.length ?? 0));
  return rows
    .map(([name = '', ...cells]) => {
      const rest = cells.map((cell, i) =>
        cells.length === 1 ? cell : cell.padStart(widths[i + 1] ?? 0),
      );
      return `  ${name.padEnd(nameWidth)}  ${rest.join('  ')}`.trimEnd();
    })
    .join('\n');
}

/** Returns the number of peers as text; '' for a case without peers. */
export function peersIn(peers: number): string {
  return peers === NO_PEERS ? '' : `${peers.toLocaleString('en')} peers`;
}

/** Returns the same as a suffix of a case's name. */
export function atPeers(peers: number): string {
  return peers === NO_PEERS ? '' : `, ${peersIn(peers)}`;
}
