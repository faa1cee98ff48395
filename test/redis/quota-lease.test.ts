// QuotaLease: what a process has on lease of a shared quota.

import { describe, expect, it } from 'vitest';
import { QuotaLease } from '../../lib/redis/quota/quota-lease.js';

describe('QuotaLease', () => {
  const leaseOf = (requests: number, bytes: number) => {
    const lease = new QuotaLease(['requests', 'bytes']);
    lease.start(7, ['requests', 'bytes'], [requests, bytes], 10);
    return lease;
  };

  it('covers a cost if each unit has enough, until it ends', () => {
    const lease = leaseOf(2, 100);
    expect(lease.covers({ requests: 2, bytes: 100 }, 9)).toBe(true);
    expect(lease.covers({ requests: 1, bytes: 101 }, 9)).toBe(false);
    expect(lease.covers({ requests: 1 }, 10)).toBe(false);
    expect([lease.left('bytes', 9), lease.left('bytes', 10)]).toEqual([100, 0]);
    expect([lease.isEmpty(9), lease.isEmpty(10)]).toEqual([false, true]);
  });

  it('gets back what was taken of it, and nothing that was taken of another or of none', () => {
    const lease = leaseOf(2, 100);
    lease.take({ requests: 2, bytes: 40 });
    expect([lease.left('requests', 9), lease.left('bytes', 9)]).toEqual([0, 60]);
    for (const id of [0, 6]) lease.takeBack({ requests: 1 }, id);
    expect(lease.left('requests', 9)).toBe(0);
    lease.takeBack({ requests: 1 }, 7);
    expect([lease.left('requests', 9), lease.left('bytes', 9)]).toEqual([1, 60]);
  });

  it('has nothing left for other units, or once it goes back', () => {
    const lease = leaseOf(2, 100);
    lease.replaceUnits(['requests', 'tokens']);
    expect(lease.units.map((unit) => lease.left(unit, 9))).toEqual([0, 0]);
    const another = leaseOf(2, 100);
    another.discard();
    expect(another.isEmpty(9)).toBe(true);
  });

  it('asks for twice what was used within half a lease, as much within one, and half of it later', () => {
    const lease = leaseOf(20, 0);
    lease.countFrom(0);
    lease.take({ requests: 8 });
    const asked = [1, 3, 5].map((now) => lease.ahead([1, 3], now, 4));
    expect(asked).toEqual([
      [16, 3],
      [8, 3],
      [4, 3],
    ]);
    lease.countFrom(5);
    expect(lease.ahead([1, 3], 6, 4)).toEqual([1, 3]);
  });
});
