// The first argument of scripts, around outages of the store.

import { describe, expect, it } from 'vitest';
import { StoreClock } from '../../lib/redis/store/store-clock.js';
import { LATE_SECONDS } from '../../lib/redis/store/timing.js';

const LIMIT = {
  rateLimit: 10,
  burstLimit: 50,
  disconnectThreshold: null,
  leaseSeconds: 20,
  shortLeaseSeconds: 0.5,
};
const DEADLINE = 0.5;
/** Seconds by which the store's clock is ahead. */
const AHEAD = 1000;

/** The numbers of the argument at `now`, this process's time. */
function argument(clock: StoreClock, now: number): number[] {
  return clock.argument(now).split(' ').map(Number);
}

function createClock(): StoreClock {
  const clock = new StoreClock(LIMIT, DEADLINE);
  clock.synchronize(AHEAD, 0);
  return clock;
}

describe('StoreClock.argument', () => {
  it('contains the latest time in the store’s time, at most a 64th of a second old', () => {
    const clock = createClock();
    expect(argument(clock, 2)).toEqual([AHEAD + 2 + DEADLINE + LATE_SECONDS]);
    expect(argument(clock, 2.015)).toEqual([AHEAD + 2 + DEADLINE + LATE_SECONDS]);
    expect(argument(clock, 2.016)).toEqual([AHEAD + 2.016 + DEADLINE + LATE_SECONDS]);
    clock.synchronize(5000, 2.017);
    expect(argument(clock, 2.017)).toEqual([5000 + DEADLINE + LATE_SECONDS]);
  });

  it('describes an outage at once, and until every bucket from before it is full', () => {
    const clock = createClock();
    argument(clock, 2);
    clock.recordOutage(AHEAD + 2, 0);
    expect(argument(clock, 2.001)).toHaveLength(1);
    clock.recordOutage(AHEAD + 2, 7);
    expect(argument(clock, 2.001).slice(1)).toEqual([AHEAD + 2, 7, 0, 0]);
    // A second outage within that time: the losses add up, to at most the burst.
    clock.recordOutage(AHEAD + 6, 8);
    expect(argument(clock, 6).slice(1)).toEqual([AHEAD + 6, 15, 0, 0]);
    clock.recordOutage(AHEAD + 7, 49);
    expect(argument(clock, 7).slice(1)).toEqual([AHEAD + 7, 50, 0, 0]);
    expect(argument(clock, 7 + 25 + LATE_SECONDS)).toHaveLength(5);
    expect(argument(clock, 7 + 25.1 + LATE_SECONDS)).toHaveLength(1);
    clock.recordOutage(AHEAD + 40, 7);
    expect(argument(clock, 40).slice(1)).toEqual([AHEAD + 40, 7, 0, 0]);
  });

  it('says after a loss of data until when lost leases may still be in use', () => {
    const clock = createClock();
    clock.recordDataLoss(AHEAD + 1);
    // All of the burst for the lifetime of a short lease, half of it for the lifetime of any lease.
    expect(argument(clock, 1).slice(1)).toEqual([AHEAD + 1, 50, AHEAD + 1.5, AHEAD + 21]);
    // A second loss: leases from before the first one and leases granted since may together hold all of the burst.
    clock.recordDataLoss(AHEAD + 5);
    expect(argument(clock, 5).slice(1)).toEqual([AHEAD + 5, 50, AHEAD + 21, AHEAD + 25]);
  });
});
