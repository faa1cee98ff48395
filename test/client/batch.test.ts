// What a server reports to be left, after many requests at once: nothing is lost when all have been answered.

import { describe, expect, it } from 'vitest';
import { burst, greedy, lease, left, said } from './support.js';

describe('a reported remaining amount after many requests at once', () => {
  const at = (remaining: number) => left(remaining, 100);
  /** Returns a limiter to which a server has said that 100 units are left, and 40 leases of requests since. */
  const afterOne = () => {
    const all = greedy();
    all.limiter.update(at(100), 200, { lease: lease(all.limiter) });
    return { ...all, leases: Array.from({ length: 40 }, () => lease(all.limiter)) };
  };

  it('is the lowest one when all have been answered, in whatever order', () => {
    const { limiter, leases } = afterOne();
    const reversed = [...leases].reverse();
    for (const [index, one] of reversed.entries()) {
      limiter.update(at(99 - index), 200, { lease: one });
      one.release();
    }
    expect(burst(limiter)).toBe(60);
  });

  it('stays the safe estimate while one is under way', () => {
    const { limiter, leases } = afterOne();
    for (const [index, one] of leases.slice(1).entries()) {
      limiter.update(at(99 - index), 200, { lease: one });
      one.release();
    }
    expect(burst(limiter)).toBeLessThanOrEqual(60);
  });

  it('stays the safe estimate if one has reported nothing', () => {
    const { limiter, leases } = afterOne();
    leases[0]?.release();
    for (const [index, one] of leases.slice(1).entries()) {
      limiter.update(at(99 - index), 200, { lease: one });
      one.release();
    }
    expect(burst(limiter)).toBeLessThanOrEqual(60);
  });
});

describe('a limit whose window has ended', () => {
  it('is assumed of the next window before its first report', () => {
    const { limiter, clock } = greedy();
    limiter.update(left(0, 5, { limit: 4, exact: true }), 200, { lease: lease(limiter) });
    clock.now += 5;
    expect(burst(limiter)).toBe(4);
    expect(limiter.delaySeconds()).toBe(5);
    // A report counts more than the assumption.
    limiter.update(left(9, 5, { limit: 12, exact: true }), 200);
    expect(burst(limiter)).toBe(9);
  });

  it('is not assumed if the server does not say how many units a window has', () => {
    const { limiter, clock } = greedy();
    limiter.update(left(0, 5, { exact: true }), 200, { lease: lease(limiter) });
    clock.now += 5;
    expect(burst(limiter)).toBeGreaterThan(900);
    limiter.update(said(), 200);
  });
});
