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
  clock.synchronize(AHEAD, 0, 0);
  return clock;
}

describe('StoreClock.argument', () => {
  it('contains the latest time in the store’s time, rounded, at most a 64th of a second old', () => {
    const clock = createClock();
    expect(argument(clock, 1.995)).toEqual([AHEAD + 3]);
    expect(argument(clock, 2.01)).toEqual([AHEAD + 3]);
    expect(argument(clock, 2.011)).toEqual([AHEAD + 4]);
    clock.synchronize(5000, 2.017, 2.017);
    expect(argument(clock, 2.017)).toEqual([Math.floor(5000 + DEADLINE + LATE_SECONDS)]);
  });

  it('describes an outage at once, and until every bucket from before it is full', () => {
    const clock = createClock();
    argument(clock, 2);
    clock.recordOutage(AHEAD + 2, 0);
    expect(argument(clock, 2.001)).toHaveLength(1);
    clock.recordOutage(AHEAD + 2, 7);
    expect(argument(clock, 2.001).slice(1)).toEqual([AHEAD + 2, 7, 0, 0, 0]);
    // A second outage within that time: the losses add up, to at most the burst.
    clock.recordOutage(AHEAD + 6, 8);
    expect(argument(clock, 6).slice(1)).toEqual([AHEAD + 6, 15, 0, 0, 0]);
    clock.recordOutage(AHEAD + 7, 49);
    expect(argument(clock, 7).slice(1)).toEqual([AHEAD + 7, 50, 0, 0, 0]);
    expect(argument(clock, 7 + 25 + LATE_SECONDS)).toHaveLength(6);
    expect(argument(clock, 7 + 25.1 + LATE_SECONDS)).toHaveLength(1);
    clock.recordOutage(AHEAD + 40, 7);
    expect(argument(clock, 40).slice(1)).toEqual([AHEAD + 40, 7, 0, 0, 0]);
  });

  it('says after a loss of data until when lost leases may still be in use', () => {
    const clock = createClock();
    const loss = { since: AHEAD + 1, emptyUntil: AHEAD + 1.5, halfUntil: AHEAD + 21 };
    expect(clock.recordDataLoss(loss, AHEAD + 1)).toBe(true);
    expect(argument(clock, 1).slice(1)).toEqual([AHEAD + 1, 50, AHEAD + 1.5, AHEAD + 21, 0]);
    expect(clock.halfSeconds(2)).toBeCloseTo(19);
    // Heartbeats repeat it.
    expect(clock.recordDataLoss(loss, AHEAD + 2)).toBe(false);
    const next = { since: AHEAD + 5, emptyUntil: AHEAD + 21, halfUntil: AHEAD + 25 };
    expect(clock.recordDataLoss(next, AHEAD + 5)).toBe(true);
    expect(argument(clock, 5).slice(1)).toEqual([AHEAD + 5, 50, AHEAD + 21, AHEAD + 25, 0]);
  });

  it('says by how much at least the store’s clock was set back, until it is there again', () => {
    const clock = createClock();
    clock.recordOutage(AHEAD + 2, 7);
    // Sent at 9.9 and answered at 10: the clock was set back by 600 s, or up to 0.1 s more.
    clock.synchronize(AHEAD + 10 - 600, 9.9, 10);
    const [latest, since, lost, , , setBack] = argument(clock, 10);
    const latestNow = Math.floor(AHEAD - 590 + DEADLINE + LATE_SECONDS);
    expect([latest, since, lost]).toEqual([latestNow, AHEAD - 590, 7]);
    expect(setBack).toBeCloseTo(599.9);
    expect(argument(clock, 10 + 601.5)).toHaveLength(1);
    // Drift, and messages that take different times, are no step.
    const steady = createClock();
    steady.synchronize(AHEAD + 10 - 0.09, 10, 10);
    expect(argument(steady, 10)).toHaveLength(1);
  });

  it('takes a loss that lies in the future for one of now', () => {
    const clock = createClock();
    const loss = { since: AHEAD + 100, emptyUntil: AHEAD + 100.5, halfUntil: AHEAD + 120 };
    clock.recordDataLoss(loss, AHEAD + 1);
    expect(argument(clock, 1).slice(1)).toEqual([AHEAD + 1, 50, AHEAD + 1.5, AHEAD + 21, 0]);
  });
});
