// DirectConnectionRateLimiter's contract, on both engines.

import type {
  Ban,
  DirectConnectionRateLimiter,
  DirectConnectionRateLimiterOptions,
} from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { manualClock } from './support/limiters.js';
import { TABLES } from './support/tables.js';

describe.each(TABLES)(
  'DirectConnectionRateLimiter on the $name',
  ({ engine, DirectConnectionRateLimiter }) => {
    const clock = manualClock();
    const create = (options: DirectConnectionRateLimiterOptions = {}) =>
      new DirectConnectionRateLimiter({ engine, clock, ...options });

    function banned(options: DirectConnectionRateLimiterOptions = {}): DirectConnectionRateLimiter {
      const limiter = create({ orderbookBanThreshold: 2, ...options });
      for (let n = 0; n < 3; n += 1) limiter.checkOrderbook('conn');
      return limiter;
    }

    test('exposes its options', () => {
      expect(create()).toMatchObject({
        engine,
        messageRatePerSec: 5,
        messageBurst: 20,
        orderbookInterval: 30,
        orderbookBanThreshold: 10,
        banDuration: 3600,
      });
    });

    test('returns tokens as of the last message, a full bucket for an unknown connection, and creates none', () => {
      const limiter = create({ messageRatePerSec: 2, messageBurst: 5 });
      expect(limiter.getTokens('conn')).toBe(5);
      expect(limiter.getStatistics().trackedConnections).toBe(0);
      limiter.checkMessage('conn', 3.5);
      clock.now += 0.5;
      expect(limiter.getTokens('conn')).toBe(1.5);
      limiter.checkMessage('conn', 4);
      expect(limiter.getTokens('conn')).toBe(2.5);
    });

    test('allows a burst of messages, then the rate; refusals are no violations and start no ban', () => {
      const limiter = create();
      for (let n = 0; n < 20; n += 1) expect(limiter.checkMessage('conn')).toBe(true);
      for (let n = 0; n < 1000; n += 1) expect(limiter.checkMessage('conn')).toBe(false);
      clock.now += 0.25;
      expect(limiter.checkMessage('conn')).toBe(true);
      expect(limiter.checkMessage('conn')).toBe(false);
      expect(limiter.isBanned('conn')).toBe(false);
      expect(limiter.getStatistics()).toMatchObject({ totalViolations: 0, trackedConnections: 1 });
    });

    test('accepts a cost of 0, a fraction or many tokens', () => {
      const limiter = create();
      expect(limiter.checkMessage('conn', 19.5)).toBe(true);
      expect(limiter.checkMessage('conn')).toBe(false);
      expect(limiter.checkMessage('conn', 0.5)).toBe(true);
      expect(limiter.checkMessage('conn', 0)).toBe(true);
      clock.now += 100;
      expect(limiter.checkMessage('conn', 21)).toBe(false);
      expect(limiter.checkMessage('conn', 20)).toBe(true);
    });

    test('never refills at a rate of 0, and never allows with a burst of 0', () => {
      const limiter = create({ messageRatePerSec: 0, messageBurst: 1 });
      expect(limiter.checkMessage('conn')).toBe(true);
      clock.now += 1e9;
      expect(limiter.checkMessage('conn')).toBe(false);
      expect(create({ messageBurst: 0 }).checkMessage('conn')).toBe(false);
    });

    test('starts a ban with the 11th orderbook request of a burst', () => {
      const bans: Ban[] = [];
      const limiter = create({ onBan: (ban) => bans.push(ban) });
      expect(limiter.checkOrderbook('conn')).toBe(true);
      for (let n = 2; n <= 10; n += 1) expect(limiter.checkOrderbook('conn')).toBe(false);
      expect(limiter.isBanned('conn')).toBe(false);
      expect(limiter.checkOrderbook('conn')).toBe(false);
      expect(limiter.isBanned('conn')).toBe(true);
      expect(bans).toEqual([{ key: 'conn', violations: 10, banDuration: 3600 }]);
      limiter.checkOrderbook('conn');
      expect(limiter.getViolationCount('conn')).toBe(11);
      expect(bans).toHaveLength(1);
    });

    test('treats a threshold of 0 as 1', () => {
      const limiter = create({ orderbookBanThreshold: 0 });
      expect(limiter.checkOrderbook('conn')).toBe(true);
      limiter.checkOrderbook('conn');
      expect(limiter.isBanned('conn')).toBe(true);
    });

    test('refuses every message during a ban, and counts none as a violation', () => {
      const limiter = banned();
      expect(limiter.checkMessage('conn')).toBe(false);
      expect(limiter.getStatistics()).toMatchObject({ totalViolations: 2, trackedConnections: 0 });
      clock.now += 3599.5;
      expect(limiter.checkMessage('conn')).toBe(false);
      clock.now += 0.5;
      expect(limiter.checkMessage('conn')).toBe(true);
      expect(limiter.getViolationCount('conn')).toBe(0);
    });

    test('keeps or removes the violations of an expired ban, depending on the next call', () => {
      const byCheck = banned({ banDuration: 10 });
      clock.now += 10;
      // The interval goes on: it is longer than this ban.
      expect(byCheck.checkOrderbook('conn')).toBe(false);
      expect(byCheck.isBanned('conn')).toBe(false);
      expect(byCheck.getViolationCount('conn')).toBe(1);
      const byQuestion = banned({ banDuration: 10 });
      clock.now += 10;
      expect(byQuestion.isBanned('conn')).toBe(false);
      expect(byQuestion.getViolationCount('conn')).toBe(2);
      expect(byQuestion.checkOrderbook('conn')).toBe(false);
      expect(byQuestion.isBanned('conn')).toBe(true);
    });

    test('takes no message token for an orderbook request, and tracks no connection for it', () => {
      const limiter = create({ messageBurst: 1 });
      limiter.checkOrderbook('conn');
      expect(limiter.getStatistics().trackedConnections).toBe(0);
      expect(limiter.checkMessage('conn')).toBe(true);
      clock.now += 30;
      expect(limiter.checkOrderbook('conn')).toBe(true);
    });

    test('removes old buckets, old intervals and expired bans in a cleanup', () => {
      const limiter = banned({ banDuration: 5000 });
      limiter.checkMessage('old', 20);
      limiter.checkOrderbook('asker');
      limiter.checkOrderbook('asker');
      clock.now += 3600.5;
      limiter.checkMessage('fresh');
      limiter.cleanupOldEntries();
      expect(limiter.getStatistics()).toMatchObject({
        totalViolations: 2,
        trackedConnections: 1,
        bannedConnections: ['conn'],
      });
      expect(limiter.getBans(5)).toMatchObject({ count: 1, bans: [['conn', expect.any(Number)]] });
      const { trackedConnections, bannedConnections: _, ...rest } = limiter.getStatistics();
      expect(limiter.getOverview()).toEqual({ trackedPeers: trackedConnections, ...rest });
      expect(limiter.checkMessage('old', 20)).toBe(true);
      clock.now += 1400;
      limiter.cleanupOldEntries();
      expect(limiter.getStatistics()).toMatchObject({ totalViolations: 0, bannedConnections: [] });
      // Its last request, which the ban kept, is old enough to go now.
      limiter.cleanupOldEntries(-1);
      expect(limiter.getStatistics().trackedConnections).toBe(0);
      expect(limiter.checkOrderbook('conn')).toBe(true);
    });

    test('removes bans in removePeer and clear', () => {
      const limiter = banned();
      limiter.checkMessage('other');
      limiter.removePeer('conn');
      expect(limiter.isBanned('conn')).toBe(false);
      expect(limiter.checkOrderbook('conn')).toBe(true);
      limiter.clear();
      expect(limiter.getStatistics()).toMatchObject({
        totalViolations: 0,
        trackedConnections: 0,
        bannedConnections: [],
        topViolators: [],
      });
    });

    test('returns the same results for a handle and for its key', () => {
      const limiter = create({ messageBurst: 2, orderbookBanThreshold: 1 });
      const peer = limiter.open('conn');
      expect([peer.key, peer.checkMessage(2), limiter.checkMessage('conn')]).toEqual([
        'conn',
        true,
        false,
      ]);
      expect([peer.checkOrderbook(), peer.checkOrderbook(), peer.isBanned()]).toEqual([
        true,
        false,
        true,
      ]);
      limiter.clear();
      expect([peer.isBanned(), peer.checkMessage()]).toEqual([false, true]);
    });

    test('returns the same results for a handle and for its key, whatever happens to the tables', () => {
      const bans: string[] = [];
      const limiter = create({
        messageRatePerSec: 0,
        messageBurst: 2,
        orderbookBanThreshold: 3,
        onBan: ({ key }) => bans.push(key),
      });
      const peer = limiter.open('conn');
      expect([peer.checkOrderbook(), peer.checkMessage(), peer.checkOrderbook()]).toEqual([
        true,
        true,
        false,
      ]);
      for (let n = 0; n < 20_000; n += 1) {
        limiter.checkMessage(`other-${n}`);
        limiter.checkOrderbook(`other-${n}`);
      }
      expect([peer.checkMessage(), peer.checkMessage(), peer.checkOrderbook()]).toEqual([
        true,
        false,
        false,
      ]);
      expect(limiter.getViolationCount('conn')).toBe(2);
      limiter.removePeer('conn');
      expect([peer.checkOrderbook(), peer.checkMessage(2), peer.checkMessage()]).toEqual([
        true,
        true,
        false,
      ]);
      expect([1, 2, 3, 4].map(() => peer.checkOrderbook())).toEqual(Array(4).fill(false));
      expect([peer.isBanned(), bans]).toEqual([true, ['conn']]);
      limiter.clear();
      expect([peer.checkMessage(), peer.checkOrderbook(), peer.checkOrderbook()]).toEqual([
        true,
        true,
        false,
      ]);
    });

    test('refuses again after a burst, however far the clock leaps', () => {
      const limiter = create({ messageRatePerSec: 0, messageBurst: 1, clock });
      clock.now = -1.7e308;
      limiter.checkMessage('conn');
      clock.now = 1.7e308;
      limiter.checkMessage('conn');
      expect(limiter.checkMessage('conn')).toBe(false);
      clock.now = 1_000_000;
    });

    test('ends no ban and grants no extra message if the clock steps back', () => {
      const limiter = banned({ messageBurst: 1 });
      limiter.checkMessage('other');
      clock.now -= 1e6;
      expect(limiter.isBanned('conn')).toBe(true);
      expect(limiter.checkMessage('other')).toBe(false);
    });
  },
);
