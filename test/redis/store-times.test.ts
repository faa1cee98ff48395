// What scripts are told of times, beside a store that is away now and then.

import { expect, it } from 'vitest';
import { LATE_SECONDS, StoreTimes } from '../../lib/redis/store/store-clock.js';

const LIMIT = {
  rateLimit: 10,
  burstLimit: 50,
  disconnectThreshold: null,
  leaseSeconds: 20,
  dearSeconds: 0.5,
};
const DEADLINE = 0.5;
/** Ours is 1,000 s behind. */
const AHEAD = 1000;

/** What is told at `now`, by our clock. */
function told(times: StoreTimes, now: number): number[] {
  return times.text(now).split(' ').map(Number);
}

function atStart(): StoreTimes {
  const times = new StoreTimes(LIMIT, DEADLINE);
  times.isAt(AHEAD, 0);
  return times;
}

it('the latest time of a call is that of the store, and right to a 64th of a second', () => {
  const times = atStart();
  expect(told(times, 2)).toEqual([AHEAD + 2 + DEADLINE + LATE_SECONDS]);
  expect(told(times, 2.015)).toEqual([AHEAD + 2 + DEADLINE + LATE_SECONDS]);
  expect(told(times, 2.016)).toEqual([AHEAD + 2.016 + DEADLINE + LATE_SECONDS]);
  times.isAt(5000, 2.017);
  expect(told(times, 2.017)).toEqual([5000 + DEADLINE + LATE_SECONDS]);
});

it('a gap is told at once, until every bucket from before it is full, whatever was lost with it', () => {
  const times = atStart();
  told(times, 2);
  times.isBack(AHEAD + 2, 0);
  expect(told(times, 2.001)).toHaveLength(1);
  times.isBack(AHEAD + 2, 7);
  expect(told(times, 2.001).slice(1)).toEqual([AHEAD + 2, 7, 0, 0]);
  // Twice within that time: what was lost adds up, to the burst at most.
  times.isBack(AHEAD + 6, 8);
  expect(told(times, 6).slice(1)).toEqual([AHEAD + 6, 15, 0, 0]);
  times.isBack(AHEAD + 7, 49);
  expect(told(times, 7).slice(1)).toEqual([AHEAD + 7, 50, 0, 0]);
  expect(told(times, 7 + 25 + LATE_SECONDS)).toHaveLength(5);
  expect(told(times, 7 + 25.1 + LATE_SECONDS)).toHaveLength(1);
  times.isBack(AHEAD + 40, 7);
  expect(told(times, 40).slice(1)).toEqual([AHEAD + 40, 7, 0, 0]);
});

it('of a loss it is told until when leases may be in use that the store does not know', () => {
  const times = atStart();
  times.isBackEmpty(AHEAD + 1);
  // All of the burst for as long as a dear lease lasts, half of it for as long as any.
  expect(told(times, 1).slice(1)).toEqual([AHEAD + 1, 50, AHEAD + 1.5, AHEAD + 21]);
  // Lost again: those of before, and those granted since, may be all of it together.
  times.isBackEmpty(AHEAD + 5);
  expect(told(times, 5).slice(1)).toEqual([AHEAD + 5, 50, AHEAD + 21, AHEAD + 25]);
});
