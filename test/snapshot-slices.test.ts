// A snapshot in slices of a limiter that is in use while the slices are taken.

import { type LimiterSnapshot, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES, manualClock } from './support/limiters.js';
import { written } from './support/snapshots.js';

const HOUR = 3600;
const DAY = 24 * HOUR;

describe.each(ENGINES)('A snapshot in slices on the %s engine', (engine) => {
  const clock = manualClock();
  const daily = (options: object = {}) =>
    new RateLimiter({ rateLimit: 100 / DAY, burstLimit: 100, engine, clock, ...options });
  /** The limiter that is restored of the slices of another, `between` called after each. */
  const restarted = (before: RateLimiter, between: (slice: number) => void): RateLimiter => {
    const slices: LimiterSnapshot[] = [];
    for (const slice of before.snapshotSlices()) {
      slices.push(written(slice));
      between(slices.length);
    }
    const after = daily();
    for (const _ of after.restoreSlices(slices));
    return after;
  };

  test('ends although new peers keep coming', () => {
    const before = daily();
    let come = 0;
    const arrive = () => {
      for (let n = 0; n < 1500; n += 1, come += 1) before.check(`${come}`, come % 2 ? 60 : 101);
    };
    arrive();
    arrive();
    let slices = 0;
    for (const _ of before.snapshotSlices()) {
      slices += 1;
      arrive();
      if (slices > 200) break;
    }
    expect(slices).toBeLessThan(100);
  });

  test('keeps the bucket and the violations of a peer that offends in the meantime', () => {
    // In whatever slice it offends first.
    for (let when = 1; when < 12; when += 1) {
      const before = daily();
      for (let n = 0; n < 2500; n += 1) before.check(`other ${n}`, n % 2 ? 60 : 101);
      before.check('peer', 100);
      let violations = 0;
      const after = restarted(before, (slice) => {
        if (slice === when) before.check('peer');
        violations = before.getViolationCount('peer');
      });
      expect(after.check('peer')[0]).toBe('delay');
      expect(after.getViolationCount('peer')).toBeLessThanOrEqual(violations + 1);
    }
  });

  test('keeps the new state of a peer that comes back in the meantime', () => {
    const first = daily();
    for (let n = 0; n < 2500; n += 1) first.check(`other ${n}`, 60);
    first.check('peer', 40);
    for (let when = 1; when < 12; when += 1) {
      const before = daily();
      before.restore(written(first.snapshot()));
      let isSpent = false;
      const after = restarted(before, (slice) => {
        if (slice !== when) return;
        before.check('peer', 60);
        isSpent = true;
      });
      expect(after.getTokens('peer')).toBeLessThanOrEqual(60);
      if (when === 1 && isSpent) expect(after.getTokens('peer')).toBe(0);
    }
  });

  test('keeps the ban of a peer that gets its first violation in the meantime', () => {
    const nicks = () =>
      new OrderbookRateLimiter({ violationBanThreshold: 0, banDuration: HOUR, engine, clock });
    for (let when = 1; when < 8; when += 1) {
      const before = nicks();
      const keys = Array.from({ length: 2500 }, (_, n) => `nick ${n}`);
      for (const key of keys) before.check(key);
      const slices: LimiterSnapshot[] = [];
      for (const slice of before.snapshotSlices()) {
        slices.push(written(slice));
        // A check during a ban is a violation.
        if (slices.length === when) for (const key of keys) before.check(key);
      }
      const after = nicks();
      for (const _ of after.restoreSlices(slices));
      expect(after.getBans(0).count).toBe(keys.length);
    }
  });

  test('has no peer of a cleared limiter, and uses its next secret', () => {
    const foreign = daily();
    foreign.check('foreign', 60);
    const before = daily();
    before.restore(written(foreign.snapshot()));
    before.check('cleared', 60);
    const after = restarted(before, (slice) => {
      if (slice !== 1) return;
      before.clear();
      const other = daily();
      other.check('other', 60);
      before.restore(written(other.snapshot()));
      before.check('poor', 60);
    });
    expect(after.getTokens('cleared')).toBe(100);
    expect(after.getTokens('foreign')).toBe(100);
    expect(after.getTokens('poor')).toBe(40);
  });
});
