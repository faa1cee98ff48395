// Paths of SVG for the pictures. x is the time in a drawing of width 1000; y grows downwards from 0 to the height.

import type { Attempt, Level, Outcome } from './simulate.js';

export const WIDTH = 1000;

/** Verdicts in the order in which bars stack them, from the axis outwards. */
export const OUTCOMES: readonly Outcome[] = ['allow', 'delay', 'banned', 'denied'];

/**
 * Returns the points of a level as `[x, y]`. Of the points within one unit of x it keeps the first, the last, the highest
 * and the lowest: what a screen can show.
 */
export function points(level: Level, seconds: number, height: number): [number, number][] {
  const kept: [number, number][] = [];
  let column: [number, number][] = [];
  const flush = () => {
    kept.push(...extremes(column));
    column = [];
  };
  for (const [index, time] of level.times.entries()) {
    const share = Math.min(Math.max((level.tokens[index] as number) / level.limit, 0), 1);
    const point: [number, number] = [(time / seconds) * WIDTH, (1 - share) * height];
    if (column[0] !== undefined && Math.floor(point[0]) !== Math.floor(column[0][0])) flush();
    column.push(point);
  }
  flush();
  return kept;
}

/** The first, the last, the highest and the lowest of some points, in their order. */
function extremes(column: readonly [number, number][]): readonly [number, number][] {
  if (column.length <= 4) return column;
  let [low, high] = [0, 0];
  for (const [index, point] of column.entries()) {
    if (point[1] > (column[low] as [number, number])[1]) low = index;
    if (point[1] < (column[high] as [number, number])[1]) high = index;
  }
  const indices = [...new Set([0, low, high, column.length - 1])].sort((a, b) => a - b);
  return indices.map((index) => column[index] as [number, number]);
}

/** Returns a line through points; empty if there are none. */
export function line(path: readonly [number, number][]): string {
  return path.map(([x, y], index) => `${index === 0 ? 'M' : 'L'}${short(x)} ${short(y)}`).join('');
}

/** Returns the area between points and the bottom. */
export function area(path: readonly [number, number][], height: number): string {
  const [first, last] = [path[0], path.at(-1)];
  if (first === undefined || last === undefined) return '';
  return `${line(path)}L${short(last[0])} ${height}L${short(first[0])} ${height}Z`;
}

/** Counts attempts by outcome in intervals of equal length. */
export function count(attempts: readonly Attempt[], seconds: number, intervals: number) {
  const counts = OUTCOMES.map(() => new Array<number>(intervals).fill(0));
  for (const { time, outcome } of attempts) {
    const interval = Math.min(Math.floor((time / seconds) * intervals), intervals - 1);
    const row = counts[OUTCOMES.indexOf(outcome)] as number[];
    row[interval] = (row[interval] as number) + 1;
  }
  return counts;
}

/** Returns one path of bars for each outcome. They stand on the bottom, stacked; `most` fills the height. */
export function bars(counts: readonly (readonly number[])[], most: number, height: number) {
  const intervals = counts[0]?.length ?? 0;
  const width = WIDTH / intervals;
  const base = new Array<number>(intervals).fill(0);
  return counts.map((row) => {
    let path = '';
    for (const [index, value] of row.entries()) {
      if (value === 0) continue;
      const from = base[index] as number;
      base[index] = from + value;
      const top = height - ((from + value) / most) * height;
      const bottom = height - (from / most) * height;
      const [left, right] = [index * width + width * 0.1, (index + 1) * width - width * 0.1];
      path += `M${short(left)} ${short(bottom)}V${short(top)}H${short(right)}V${short(bottom)}Z`;
    }
    return path;
  });
}

/** Returns the largest sum of an interval, at least 1. */
export function highest(counts: readonly (readonly number[])[]): number {
  const sums = (counts[0] ?? []).map((_, index) =>
    counts.reduce((sum, row) => sum + (row[index] as number), 0),
  );
  return Math.max(1, ...sums);
}

function short(value: number): string {
  return String(Math.round(value * 100) / 100);
}
