// The three algorithms of PolicyLimiter by example: bucket, sliding and fixed.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { runs } from '../support/runs.js';
import { burst, limited } from './support.js';

describe('bucket', () => {
  it('refunds a cost once, whatever was refunded before', () => {
    const { limiter, clock } = limited([{ quota: 20, windowSeconds: 100 }], { burstShare: 0.5 });
    const [first, second] = [limiter.tryLease(9), limiter.tryLease(1)];
    first?.refund();
    clock.now += 10.5;
    expect(limiter.tryAcquire(10)).toBe(true);
    // The one unit has been refilled and taken again.
    second?.refund();
    expect(limiter.tryAcquire(1)).toBe(false);
  });

  it('refunds a cost completely if nothing was taken since', () => {
    const { limiter, clock } = limited([{ quota: 20, windowSeconds: 100 }], { burstShare: 0.5 });
    limiter.tryAcquire(6);
    const last = limiter.tryLease(4);
    clock.now += 20;
    last?.refund();
    expect(burst(limiter)).toBe(6);
  });

  it('grants a share of the quota in one burst, then evenly', () => {
    const { limiter, clock } = limited([{ quota: 100, windowSeconds: 90 }]);
    expect(burst(limiter)).toBe(10);
    expect(limiter.delaySeconds()).toBeCloseTo(1, 9);
    clock.now += 5;
    expect(burst(limiter)).toBe(5);
  });

  it('delays a cost above its capacity until it has been full for long enough', () => {
    const { limiter, clock } = limited([{ quota: 100, windowSeconds: 90 }]);
    // A new bucket counts as full since ever.
    expect(limiter.tryAcquire(100)).toBe(true);
    // 100 seconds to refill it, and 90 for what exceeds its capacity, at one unit per second.
    expect(limiter.delaySeconds(100)).toBeCloseTo(190, 6);
    expect(limiter.delaySeconds(10)).toBeCloseTo(100, 6);
    clock.now += 150;
    expect(limiter.delaySeconds(60)).toBe(0);
    expect(limiter.delaySeconds(61)).toBeCloseTo(1, 6);
  });

  it('is as full after a cost of 0 as before', () => {
    const { limiter, clock } = limited([{ quota: 100, windowSeconds: 90 }]);
    limiter.tryAcquire(10);
    clock.now += 100;
    expect(limiter.tryAcquire(0)).toBe(true);
    expect(limiter.delaySeconds(100)).toBe(0);
  });

  it('refunds no more than is still missing', () => {
    const { limiter, clock } = limited([{ quota: 100, windowSeconds: 90 }]);
    const lease = limiter.tryLease(10);
    clock.now += 9;
    expect(limiter.tryAcquire(9)).toBe(true);
    lease?.refund();
    // Nine of its ten units have been refilled and taken again.
    expect(burst(limiter)).toBe(1);
  });
});

describe('sliding', () => {
  it('has spent units back after exactly one window', () => {
    const { limiter, clock } = limited([{ quota: 3, windowSeconds: 60 }], { algorithm: 'sliding' });
    expect(burst(limiter)).toBe(3);
    expect(limiter.delaySeconds()).toBe(60);
    clock.now += 59.9;
    expect(limiter.tryAcquire()).toBe(false);
    clock.now += 0.1;
    expect(burst(limiter)).toBe(3);
  });

  it('keeps its log small under small costs and never exceeds the quota', () => {
    const { limiter, clock } = limited([{ quota: 1, windowSeconds: 1000 }], {
      algorithm: 'sliding',
    });
    const cost = 2 ** -20;
    let spent = 0;
    for (; limiter.tryAcquire(cost); spent += cost) clock.now += 0.0005;
    expect(spent).toBe(1);
    const [saved] = limiter.snapshot().policies;
    expect(saved?.state.length).toBeLessThanOrEqual(2 * 2 * 1024);
    // All of the quota was taken in 525 seconds, so the first take expires in 475.
    expect(limiter.delaySeconds(cost)).toBeGreaterThan(475);
    expect(limiter.delaySeconds(cost)).toBeLessThan(476);
  });
});

it('sliding keeps no entries of refunded takes', () => {
  const { limiter, clock } = limited([{ quota: 3, windowSeconds: 1e6 }], { algorithm: 'sliding' });
  let last = limiter.tryLease();
  for (let n = 0; n < 1000; n += 1) {
    clock.now += 1;
    const next = limiter.tryLease();
    last?.refund();
    last = next;
  }
  expect(limiter.snapshot().policies[0]?.state).toEqual([0, 1]);
  expect(burst(limiter)).toBe(2);
});

describe('fixed', () => {
  it('starts a window with the first request after the previous window', () => {
    const { limiter, clock } = limited([{ quota: 10, windowSeconds: 60 }], { algorithm: 'fixed' });
    clock.now += 100;
    expect(limiter.tryAcquire(10)).toBe(true);
    expect(limiter.delaySeconds()).toBeCloseTo(60.1, 6);
    clock.now += 60.1;
    expect(limiter.delaySeconds()).toBe(0);
  });

  it('paces after a fifth of the quota, even in its first moment', () => {
    const { limiter, clock } = limited([{ quota: 100, windowSeconds: 100 }], {
      algorithm: 'fixed',
    });
    expect(burst(limiter)).toBe(21);
    // The rest is spread evenly: 79 - 0.5 units over 100 seconds.
    expect(limiter.delaySeconds()).toBeCloseTo(100 / 78.5, 6);
    clock.now += 21 / 1.3;
    expect(limiter.delaySeconds()).toBe(0);
  });

  it('grants after the delay it returns, on any clock', () => {
    const time = fc.double({ min: -1e12, max: 1e12, noNaN: true });
    const seconds = fc.double({ min: 1e-3, max: 1e12, noNaN: true });
    fc.assert(
      fc.property(time, seconds, (start, windowSeconds) => {
        const policies = [{ quota: 1, windowSeconds }];
        const { limiter, clock } = limited(policies, { algorithm: 'fixed' }, start);
        expect(limiter.tryAcquire()).toBe(true);
        clock.now += limiter.delaySeconds();
        expect(limiter.delaySeconds()).toBe(0);
      }),
      runs(2000),
    );
  });

  it('delays its last unit no longer than until its window ends', () => {
    const { limiter } = limited([{ quota: 10, windowSeconds: 60 }], { algorithm: 'fixed' });
    expect(limiter.tryAcquire(9)).toBe(true);
    expect(limiter.delaySeconds()).toBeLessThanOrEqual(60);
  });

  it('counts concurrent requests when they are sent', () => {
    const { limiter, clock } = limited([{ quota: 2, windowSeconds: 60 }], { algorithm: 'fixed' });
    const leases = [limiter.tryLease(2), limiter.tryLease(2)];
    expect(leases.map((lease) => lease !== null)).toEqual([true, false]);
    leases[0]?.refund();
    const again = limiter.tryLease(2);
    expect(again).not.toBeNull();
    // In the next window there is nothing to refund.
    clock.now += 60.1;
    expect(limiter.tryAcquire()).toBe(true);
    again?.refund();
    expect(limiter.tryAcquire(2)).toBe(false);
  });
});
