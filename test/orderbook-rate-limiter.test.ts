// OrderbookRateLimiter's contract, on both engines.

import type { Ban, OrderbookRateLimiter, OrderbookRateLimiterOptions } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { codeOf, manualClock } from './support/limiters.js';
import { TABLES } from './support/tables.js';

describe.each(TABLES)(
  'OrderbookRateLimiter on the $name',
  ({ engine, isShared, OrderbookRateLimiter }) => {
    const clock = manualClock();
    const create = (options: OrderbookRateLimiterOptions = {}) =>
      new OrderbookRateLimiter({ engine, clock, ...options });

    function offended(limiter: OrderbookRateLimiter, violations: number, key = 'nick') {
      while (limiter.getViolationCount(key) < violations) limiter.check(key);
      return limiter;
    }

    test('exposes its options', () => {
      expect(create()).toMatchObject({
        engine,
        rateLimit: 1,
        interval: 10,
        violationBanThreshold: 100,
        violationWarningThreshold: 10,
        violationSevereThreshold: 50,
        banDuration: 3600,
      });
    });

    test('allows one request per interval; refusals are violations and do not extend the interval', () => {
      const limiter = create();
      expect(limiter.check('nick')).toBe(true);
      clock.now += 9.5;
      expect(limiter.check('nick')).toBe(false);
      expect(limiter.check('other')).toBe(true);
      clock.now += 0.5;
      expect(limiter.check('nick')).toBe(true);
      expect(limiter.getViolationCount('nick')).toBe(1);
    });

    test.each([
      [9, 'NORMAL', 10],
      [10, 'MODERATE', 60],
      [49, 'MODERATE', 60],
      [50, 'SEVERE', 300],
      [99, 'SEVERE', 300],
    ])('allows a peer with %i violations (%s) every %i seconds', (violations, level, seconds) => {
      const limiter = offended(create(), violations);
      expect(limiter.getBackoffLevel('nick')).toBe(level);
      clock.now += seconds - 0.5;
      const almost = limiter.check('nick');
      clock.now += 0.5;
      // The refusal before may have put it on the next level, or on the threshold of a ban.
      if (violations < 99 && violations !== 9 && violations !== 49) {
        expect([almost, limiter.check('nick')]).toEqual([false, true]);
      } else {
        expect(almost).toBe(false);
      }
    });

    test('starts a ban with the 102nd request of a burst', () => {
      const bans: Ban[] = [];
      const limiter = create({ onBan: (ban) => bans.push(ban) });
      expect(limiter.check('nick')).toBe(true);
      for (let n = 2; n <= 101; n += 1) expect(limiter.check('nick')).toBe(false);
      expect(limiter.getViolationCount('nick')).toBe(100);
      expect(limiter.getBackoffLevel('nick')).toBe('BANNED');
      expect(limiter.isBanned('nick')).toBe(false);
      expect(bans).toEqual([]);
      expect(limiter.check('nick')).toBe(false);
      expect(limiter.isBanned('nick')).toBe(true);
      expect(limiter.getViolationCount('nick')).toBe(100);
      expect(bans).toEqual([{ key: 'nick', violations: 100, banDuration: 3600 }]);
      // Requests during the ban count, and neither extend it nor begin another.
      clock.now += 3599.5;
      expect(limiter.check('nick')).toBe(false);
      expect(limiter.getViolationCount('nick')).toBe(101);
      expect(bans).toHaveLength(1);
      clock.now += 0.5;
      expect(limiter.check('nick')).toBe(true);
      expect(limiter.getViolationCount('nick')).toBe(0);
      expect(limiter.isBanned('nick')).toBe(false);
    });

    test('removes an expired ban in isBanned, and allows the next request', () => {
      const limiter = offended(create({ violationBanThreshold: 1 }), 1);
      limiter.check('nick');
      clock.now += 3600;
      expect(limiter.isBanned('nick')).toBe(false);
      expect(limiter.getViolationCount('nick')).toBe(0);
      expect(limiter.getStatistics()).toMatchObject({ trackedPeers: 1, totalViolations: 0 });
      expect(limiter.check('nick')).toBe(true);
    });

    test('accepts a ban that is longer than the longest timer', () => {
      const banDuration = 100 * 86_400;
      const limiter = offended(create({ violationBanThreshold: 1, banDuration }), 1);
      limiter.check('nick');
      clock.now += banDuration - 1;
      limiter.cleanupOldEntries();
      expect(limiter.isBanned('nick')).toBe(true);
      clock.now += 1;
      expect(limiter.isBanned('nick')).toBe(false);
    });

    test('bans a peer at its first request if the threshold is 0', () => {
      const bans: Ban[] = [];
      const limiter = create({ violationBanThreshold: 0, onBan: (ban) => bans.push(ban) });
      expect(limiter.check('nick')).toBe(false);
      expect(limiter.getStatistics()).toMatchObject({
        trackedPeers: 0,
        bannedPeers: ['nick'],
        topViolators: [],
      });
      expect(bans).toEqual([{ key: 'nick', violations: 0, banDuration: 3600 }]);
    });

    test('removes old peers and expired bans in a cleanup, and keeps bans in force', () => {
      const limiter = create({ violationBanThreshold: 1, banDuration: 10_000 });
      limiter.check('honest');
      offended(limiter, 1, 'banned');
      limiter.check('banned');
      clock.now += 3600;
      limiter.cleanupOldEntries();
      expect(limiter.getStatistics().trackedPeers).toBe(2);
      clock.now += 0.5;
      limiter.check('fresh');
      limiter.cleanupOldEntries();
      expect(limiter.getStatistics()).toMatchObject({
        trackedPeers: 1,
        totalViolations: 1,
        bannedPeers: ['banned'],
      });
      clock.now += 6399.5;
      // At exactly the duration the ban is over for a check, and kept by a cleanup.
      limiter.cleanupOldEntries(1e9);
      expect(limiter.getStatistics()).toMatchObject({ totalViolations: 1, bannedPeers: [] });
      clock.now += 0.5;
      limiter.cleanupOldEntries(1e9);
      expect(limiter.getStatistics()).toMatchObject({ totalViolations: 0, trackedPeers: 1 });
      limiter.cleanupOldEntries(-1);
      expect(limiter.getStatistics()).toMatchObject({ trackedPeers: 0 });
    });

    test('keeps nothing of a thousand expired bans', () => {
      const limiter = create({ violationBanThreshold: 1, banDuration: 60 });
      for (let n = 0; n < 1000; n += 1) {
        offended(limiter, 1, `nick-${n}`);
        limiter.check(`nick-${n}`);
      }
      expect(limiter.getStatistics().bannedPeers).toHaveLength(1000);
      clock.now += 100;
      for (let n = 0; n < 100; n += 1) limiter.cleanupOldEntries(50, { budgetMs: 0 });
      expect(limiter.getStatistics()).toMatchObject({
        trackedPeers: 0,
        totalViolations: 0,
        bannedPeers: [],
        topViolators: [],
      });
    });

    test('removes expired bans in a cleanup with a budget although newcomers keep coming', () => {
      const limiter = create({ violationBanThreshold: 1, banDuration: 60 });
      offended(limiter, 1, 'banned');
      limiter.check('banned');
      for (let n = 0; n < 1000; n += 1) limiter.check(`old-${n}`);
      clock.now += 61;
      let calls = 0;
      while (limiter.getStatistics().totalViolations > 0 && calls < 100) {
        for (let n = 0; n < 300; n += 1) limiter.check(`new-${calls}-${n}`);
        limiter.cleanupOldEntries(3600, { budgetMs: 0 });
        calls += 1;
      }
      expect(calls).toBeLessThan(30);
    });

    test.each([0, 1, 7, 600, 2999, 3000, 3001])('lists the %i longest bans of 3,000', (most) => {
      const limiter = create({ violationBanThreshold: 0, banDuration: 60 });
      limiter.check('over');
      clock.now += 60;
      const start = clock.now;
      // Forward and back, and several of one instant.
      for (let n = 0; n < 3000; n += 1) {
        clock.now = start + (isShared ? Math.floor(n / 60) : (n * 7) % 50);
        limiter.check(`nick-${n}`);
      }
      clock.now = start + 50;
      const { bannedPeers } = limiter.getStatistics();
      const { count, bans } = limiter.getBans(most);
      expect(count).toBe(3000);
      expect(bans.map(([key]) => key)).toEqual(bannedPeers.reverse().slice(0, most));
      if (most === 0) return;
      expect(bans[0]).toEqual([isShared ? 'nick-2999' : 'nick-2957', 59]);
      const seconds = bans.map(([, secondsLeft]) => secondsLeft);
      expect(seconds).toEqual([...seconds].sort((a, b) => b - a));
    });

    test('lists a hundred bans by default, and throws unless the maximum is a whole number', () => {
      const limiter = create({ violationBanThreshold: 0 });
      expect(limiter.getBans()).toEqual({ count: 0, bans: [] });
      for (let n = 0; n < 150; n += 1) limiter.check(`nick-${n}`);
      expect([limiter.getBans().count, limiter.getBans().bans.length]).toEqual([150, 100]);
      for (const wrong of [-1, 1.5, Number.NaN, Infinity, '1', null]) {
        expect(codeOf(() => limiter.getBans(wrong as number))).toBe('ERR_LIMITER_OPTION');
      }
    });

    test('lists no bans in the overview, and reads no clock for it', () => {
      const limiter = offended(create({ violationBanThreshold: 1 }), 1);
      limiter.check('nick');
      const { bannedPeers, ...rest } = limiter.getStatistics();
      expect(bannedPeers).toEqual(['nick']);
      const { reads } = clock;
      expect(limiter.getOverview()).toEqual(rest);
      expect(clock.reads).toBe(reads);
    });

    test('lists bans in the order in which they began', () => {
      const limiter = create({ violationBanThreshold: 1, banDuration: 60 });
      const ban = (key: string) => {
        offended(limiter, 1, key);
        limiter.check(key);
      };
      for (const key of ['10', 'b', '1', 'a']) ban(key);
      expect(limiter.getStatistics().bannedPeers).toEqual(['10', 'b', '1', 'a']);
      limiter.removePeer('10');
      ban('10');
      expect(limiter.getStatistics().bannedPeers).toEqual(['b', '1', 'a', '10']);
      limiter.clear();
      expect(limiter.getStatistics()).toMatchObject({ bannedPeers: [], trackedPeers: 0 });
    });

    test('removes a ban in removePeer', () => {
      const limiter = offended(create({ violationBanThreshold: 1 }), 1);
      limiter.check('nick');
      limiter.removePeer('nick');
      expect(limiter.isBanned('nick')).toBe(false);
      expect(limiter.check('nick')).toBe(true);
    });

    test('returns the same results for a peer handle and for its key, whatever happens to the table', () => {
      const limiter = create();
      const peer = limiter.open('nick');
      expect(peer.key).toBe('nick');
      expect(limiter.getStatistics().trackedPeers).toBe(0);
      expect([peer.check(), peer.check(), limiter.check('nick')]).toEqual([true, false, false]);
      for (let n = 0; n < 20_000; n += 1) limiter.check(`other-${n}`);
      expect(peer.check()).toBe(false);
      expect(limiter.getViolationCount('nick')).toBe(3);
      limiter.removePeer('nick');
      expect([peer.check(), peer.check()]).toEqual([true, false]);
      clock.now += 100;
      limiter.cleanupOldEntries(50);
      expect([peer.check(), limiter.check('nick')]).toEqual([true, false]);
      limiter.clear();
      expect([peer.check(), limiter.check('nick')]).toEqual([true, false]);
    });

    test('bans a peer handle as its key, and calls onBan', () => {
      const bans: unknown[] = [];
      const limiter = create({ violationBanThreshold: 2, onBan: (ban) => bans.push(ban) });
      const peer = limiter.open('nick');
      const answers = Array.from({ length: 5 }, () => peer.check());
      expect(answers).toEqual([true, false, false, false, false]);
      expect(limiter.isBanned('nick')).toBe(true);
      expect(bans).toEqual([{ key: 'nick', violations: 2, banDuration: limiter.banDuration }]);
      clock.now += limiter.banDuration;
      expect([peer.check(), peer.check()]).toEqual([true, false]);
    });

    test('returns the right result for a peer handle if onBan checks other handles', () => {
      const others = ['a', 'b', 'c'].map((key) => create().open(key));
      const onBan = () => {
        for (const other of others) other.check();
      };
      const limiter = create({ violationBanThreshold: 1, onBan });
      const peer = limiter.open('nick');
      expect([1, 2, 3, 4].map(() => peer.check())).toEqual([true, false, false, false]);
      expect(limiter.getStatistics()).toMatchObject({ trackedPeers: 1, bannedPeers: ['nick'] });
    });

    test('ends no interval and no ban if the clock steps back', () => {
      const limiter = create({ violationBanThreshold: 1 });
      limiter.check('nick');
      clock.now -= 1000;
      expect(limiter.check('nick')).toBe(false);
      limiter.check('nick');
      clock.now -= 1000;
      expect(limiter.isBanned('nick')).toBe(true);
    });

    test('allows the first request if the clock is near 0', () => {
      for (const start of [0, 0.001, 5]) {
        const limiter = create({ clock: () => start });
        expect(limiter.check('nick')).toBe(true);
        expect(limiter.check('nick')).toBe(false);
      }
    });
  },
);
