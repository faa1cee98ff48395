// TokenBucket: tables of a clock, a cost, and what comes of it. The golden traces hold the rest.

import { TokenBucket } from 'relay-limiter';
import { expect, test } from 'vitest';
import { manualClock } from './support/limiters.js';

test('TokenBucket starts full', () => {
  const clock = manualClock(7);
  const bucket = new TokenBucket(10, 2, { clock });
  expect(bucket).toMatchObject({ capacity: 10, refillRate: 2, tokens: 10, lastRefill: 7 });
  expect(bucket.getDelaySeconds()).toBe(0);
});

test.each(
  [
    // at, cost, taken, tokens left
    [0, 1, true, 9],
    [0, 9, true, 0],
    [0, 0, true, 0],
    [0, 1, false, 0],
    [0.25, 1, false, 0.5],
    [0.5, 1, true, 0],
    [1, 0.5, true, 0.5],
    [0, 0.5, true, 0],
    [2, 5, false, 4],
    [100, 10.5, false, 10],
    [100, 10, true, 0],
  ].map((_row, n, rows) => rows.slice(0, n + 1)),
)('TokenBucket.consume takes tokens step by step %#', (...rows) => {
  const clock = manualClock(0);
  const bucket = new TokenBucket(10, 2, { clock });
  for (const [at, cost, taken, left] of rows as [number, number, boolean, number][]) {
    clock.now = at;
    expect(bucket.consume(cost)).toBe(taken);
    expect(bucket.tokens).toBe(left);
    expect(bucket.lastRefill).toBe(at);
  }
});

test('TokenBucket.getDelaySeconds returns the delay of one token as of the last consume', () => {
  const clock = manualClock(0);
  const bucket = new TokenBucket(2, 4, { clock });
  bucket.consume(2);
  expect(bucket.getDelaySeconds()).toBe(0.25);
  clock.now = 100;
  expect(bucket.getDelaySeconds()).toBe(0.25);
  bucket.consume(0);
  expect(bucket.getDelaySeconds()).toBe(0);
});

test('TokenBucket.reset fills the bucket', () => {
  const clock = manualClock(0);
  const bucket = new TokenBucket(2, 1, { clock });
  bucket.consume(2);
  clock.now = 0.5;
  bucket.reset();
  expect(bucket).toMatchObject({ tokens: 2, lastRefill: 0.5 });
});

test('TokenBucket has a clock by default', () => {
  const bucket = new TokenBucket(1, 1e-6);
  expect([bucket.consume(), bucket.consume()]).toEqual([true, false]);
});
