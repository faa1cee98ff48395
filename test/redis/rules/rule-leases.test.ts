// RuleLeases: what a node may spend of a lease, and what it may not take back.

import { describe, expect, it } from 'vitest';
import { RuleLeases } from '../../../lib/redis/rules/rule-leases.js';

const GRANT = { tokens: 10, isCarried: false, ends: 30, leaseId: 1 };

function leased(): { leases: RuleLeases; place: number } {
  const leases = new RuleLeases(2);
  const place = leases.insert('k');
  leases.grant(place, 1, GRANT);
  return { leases, place };
}

describe('RuleLeases', () => {
  it('takes back what a refused check has spent, unless the store has been told meanwhile', () => {
    const { leases, place } = leased();
    const before = leases.generation(place, 1);
    leases.spend(place, 1, 3);
    leases.unspend(place, 1, 3, before);
    expect(leases.left(place, 1, 0)).toBe(10);
    leases.spend(place, 1, 3);
    expect(leases.tell(place, 1, 0)).toBe(7);
    leases.unspend(place, 1, 3, before);
    expect(leases.left(place, 1, 0)).toBe(7);
  });

  it('takes nothing back into a newer lease', () => {
    const { leases, place } = leased();
    const before = leases.generation(place, 1);
    leases.spend(place, 1, 3);
    leases.grant(place, 1, { ...GRANT, leaseId: 2 });
    leases.unspend(place, 1, 3, before);
    expect(leases.left(place, 1, 0)).toBe(10);
  });

  it('keeps nothing of what it returns, and nothing after the end of a lease', () => {
    const { leases, place } = leased();
    expect([leases.left(place, 1, 29), leases.left(place, 1, 30)]).toEqual([10, 0]);
    expect(leases.take(place, 1, 0)).toBe(10);
    expect(leases.left(place, 1, 0)).toBe(0);
  });

  it('remembers a refusal for a second, for its plan and costs of at least its cost', () => {
    const { leases, place } = leased();
    leases.setUsed(place, 0, 5, 2, 100);
    leases.refuse(place, 0, 3, 110);
    const seconds = (cost: number, plan: number, now: number) =>
      leases.refusedSeconds(place, 0, cost, { plan, rate: 0.5 }, now);
    expect([seconds(3, 2, 100), seconds(4, 2, 100.5)]).toEqual([10, 11.5]);
    expect([seconds(2, 2, 100), seconds(3, 0, 100), seconds(3, 2, 101.5)]).toEqual([0, 0, 0]);
    leases.forgive(place, 0);
    expect(seconds(3, 2, 100)).toBe(0);
  });
});
