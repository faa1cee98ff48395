// The playground's pictures and sliders, without a browser.

import { describe, expect, test } from 'vitest';
import { area, bars, count, highest, line, points } from '../../playground/chart.js';
import { format, POSITIONS, positionOf, SCALES, valueAt } from '../../playground/numbers.js';
import type { Attempt, Level } from '../../playground/simulate.js';

const level = (times: number[], tokens: number[]): Level => {
  return { rule: 'r', scope: 's', unit: 'requests', limit: 10, times, tokens };
};
const attempt = (time: number, outcome: Attempt['outcome']): Attempt => {
  return { time, outcome, rule: null, scope: null, delaySeconds: 0 };
};

describe('the line of a level', () => {
  test('goes through its points, full at the top', () => {
    const path = points(level([0, 30, 30, 60], [10, 10, 0, 5]), 60, 100);
    expect(line(path)).toBe('M0 0L500 0L500 100L1000 50');
    expect(area(path, 100)).toBe('M0 0L500 0L500 100L1000 50L1000 100L0 100Z');
  });

  test('keeps the highest and the lowest of more points than a screen has', () => {
    const times = Array.from({ length: 60_000 }, (_, index) => index / 1000);
    const tokens = times.map(() => 5);
    tokens[30_021] = 0;
    tokens[30_033] = 10;
    const path = points(level(times, tokens), 60, 100);
    expect(path.length).toBeLessThan(4500);
    expect(path.filter(([, y]) => y !== 50).map(([, y]) => y)).toEqual([100, 0]);
  });

  test('stays inside the picture if a charge has taken more than there was', () => {
    expect(points(level([0], [-5]), 60, 100)).toEqual([[0, 100]]);
  });

  test('is empty without points', () => {
    expect([line([]), area([], 100)]).toEqual(['', '']);
  });
});

test('bars stack verdicts by interval, and the highest one fills the height', () => {
  const attempts = [
    attempt(0, 'allow'),
    attempt(0.5, 'delay'),
    attempt(1, 'allow'),
    attempt(2, 'banned'),
  ];
  const counts = count(attempts, 2, 2);
  expect(counts).toEqual([
    [1, 1],
    [1, 0],
    [0, 1],
    [0, 0],
  ]);
  expect(highest(counts)).toBe(2);
  expect(bars(counts, 2, 40)).toEqual([
    'M50 40V20H450V40ZM550 40V20H950V40Z',
    'M50 20V0H450V20Z',
    'M550 20V0H950V20Z',
    '',
  ]);
});

test.each(Object.entries(SCALES))(
  'the slider of %s reaches both ends and keeps its place',
  (_, scale) => {
    expect(valueAt(0, scale)).toBe(scale.least);
    expect(valueAt(POSITIONS, scale)).toBe(scale.most);
    let before = -1;
    for (let position = 0; position <= POSITIONS; position += 1) {
      const value = valueAt(position, scale);
      expect(value).toBeGreaterThanOrEqual(before);
      // The position of a value shows it, but for its rounding to two digits.
      const shown = valueAt(positionOf(value, scale), scale);
      expect(Math.abs(shown - value)).toBeLessThanOrEqual(value * 0.021);
      before = value;
    }
  },
);

test('a slider shows a value beyond its ends at the end', () => {
  const { rateLimit } = SCALES as { rateLimit: never };
  expect([positionOf(1e9, rateLimit), positionOf(1e-9, rateLimit)]).toEqual([POSITIONS, 0]);
});

test('numbers have the digits that matter', () => {
  expect([0.125, 9.5, 12.34, 1234.5, Number.POSITIVE_INFINITY].map(format)).toEqual([
    '0.13',
    '9.5',
    '12.3',
    '1,235',
    '∞',
  ]);
});
