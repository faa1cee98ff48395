// maxPeers: which peer is evicted for a new one, which never is, and what is counted. The search in larger limiters is in
// eviction-search.test.ts, many operations are in max-peers-flood.test.ts.

import type { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES } from './support/limiters.js';
import { smallLimiters, times } from './support/small-limiters.js';

describe.each(ENGINES)('On the %s engine', (engine) => {
  const { clock, rate, orderbook, direct } = smallLimiters(engine);

  /** Tokens left, which it takes. */
  const tokens = (limiter: RateLimiter, key: string) => {
    let left = 0;
    while (limiter.check(key)[0] === 'allow') left += 1;
    return left;
  };

  describe('RateLimiter', () => {
    test('stores exactly maxPeers peers', () => {
      const limiter = rate({ maxPeers: 100 });
      for (let n = 0; n < 1000; n += 1) {
        expect(limiter.check(`peer-${n}`)).toEqual(['allow', 0]);
        expect(limiter.getStats().peers).toBe(Math.min(n + 1, 100));
      }
      expect(limiter.getStats()).toMatchObject({ trackedPeers: 100, evictions: 900 });
    });

    test('evicts a peer in its initial state first, which loses nothing', () => {
      const limiter = rate();
      limiter.check('fresh again', 2);
      clock.now += 2;
      for (const key of ['a', 'b', 'c']) limiter.check(key);
      limiter.check('newcomer');
      expect(limiter.getStats()).toMatchObject({ peers: 4, evictions: 1, lossyEvictions: 0 });
      expect(tokens(limiter, 'a')).toBe(9);
    });

    test('then evicts the clean peer that is closest to its initial state', () => {
      const limiter = rate();
      limiter.check('5 missing', 5);
      limiter.check('2 missing', 2);
      limiter.check('3 missing', 3);
      limiter.check('9 missing', 9);
      limiter.check('newcomer', 10);
      expect(limiter.getStats()).toMatchObject({ evictions: 1, lossyEvictions: 1 });
      // Two tokens are back, where two were missing: it was forgotten.
      expect(limiter.getDelayForPeer('9 missing')).toBe(0);
      expect(tokens(limiter, '5 missing')).toBe(5);
      expect(tokens(limiter, '3 missing')).toBe(7);
      expect(tokens(limiter, '9 missing')).toBe(1);
    });

    test('evicts offenders last: the fewest violations first, of these the least recently active first', () => {
      const limiter = rate();
      const offend = (key: string, violations: number) =>
        times(violations, () => limiter.check(key, 11));
      offend('three', 3);
      offend('two, idle', 2);
      clock.now += 1000;
      offend('two', 2);
      limiter.check('unpunished', 10);
      const goes = [] as string[];
      const known = ['three', 'two, idle', 'two', 'unpunished'];
      for (let n = 0; n < 4; n += 1) {
        limiter.check(`newcomer ${n}`, 10);
        // Newcomers go before violators, and must not.
        offend(`newcomer ${n}`, 50);
        for (const key of known) {
          if (key === 'unpunished' ? limiter.getDelayForPeer(key) : limiter.getViolationCount(key))
            continue;
          if (!goes.includes(key)) goes.push(key);
        }
      }
      expect(goes).toEqual(['unpunished', 'two, idle', 'two', 'three']);
      expect(limiter.getStats()).toMatchObject({
        evictions: 4,
        lossyEvictions: 4,
        totalViolations: 200,
      });
    });

    test('keeps the offender with more violations, however many there are', () => {
      for (const [fewer, more] of [
        [65_533, 65_534],
        [65_534, 65_535],
        [65_535, 65_536],
        [70_000, 2 ** 40],
      ] as const) {
        const limiter = rate({ maxPeers: 2 });
        const offender = (key: string, violations: number) =>
          ({ key, violations, banSecondsLeft: null, idleSeconds: 5 }) as const;
        const peers = [offender('more', more), offender('fewer', fewer)];
        limiter.restore({ format: 1, limiter: 'RateLimiter', peers });
        limiter.check('newcomer');
        expect(limiter.getViolationCount('more')).toBe(more);
        expect(limiter.getViolationCount('fewer')).toBe(0);
      }
    });

    test('keeps an offender if honest peers are removed', () => {
      const limiter = rate({ maxPeers: 100, rateLimit: 0.001 });
      for (let n = 0; n < 99; n += 1) limiter.check(`honest-${n}`);
      times(3, () => limiter.check('violator', 11));
      for (let n = 0; n < 90; n += 1) limiter.removePeer(`honest-${n}`);
      for (let n = 0; n < 1000; n += 1) limiter.check(`flood-${n}`);
      expect(limiter.getViolationCount('violator')).toBe(3);
    });

    test('gives a newcomer no violations of the offender that it replaces', () => {
      const limiter = rate({ maxPeers: 2 });
      times(2, () => limiter.check('idle', 11));
      clock.now += 1;
      times(2, () => limiter.check('violator', 11));
      clock.now += 1;
      for (const key of ['newcomer', 'another']) limiter.check(key, 10);
      expect(limiter.getViolationCount('violator')).toBe(2);
      times(3, () => limiter.check('another', 11));
      limiter.removePeer('another');
      for (const key of ['newcomer', 'another']) limiter.check(key, 10);
      expect(limiter.getViolationCount('violator')).toBe(2);
      expect(limiter.getStats()).toMatchObject({ peers: 2, totalViolations: 2, evictions: 3 });
    });

    test('returns the right results for peer handles and groups, whichever peers are evicted', () => {
      const limiter = rate({ maxPeers: 2 });
      const [a, b, c] = ['a', 'b', 'c'].map((key) => limiter.open(key));
      expect(a?.check(3)).toEqual(['allow', 0]);
      expect(b?.check(5)).toEqual(['allow', 0]);
      // a goes, comes again, and is full; then b is the nearest to fresh.
      expect(c?.check(10)).toEqual(['allow', 0]);
      expect(a?.check(10)).toEqual(['allow', 0]);
      expect(a?.check(1)).toEqual(['delay', 1]);
      expect(limiter.getStats()).toMatchObject({ peers: 2, evictions: 2 });
      // Each member takes the place of one that was before it in the same group.
      const group = limiter.group(Array.from({ length: 50 }, (_, n) => `member-${n}`));
      for (let round = 0; round < 3; round += 1) {
        expect([...group.check(10)]).toEqual(Array(50).fill(0));
        expect(limiter.getStats().peers).toBe(2);
      }
    });

    test('changes nothing of the peers that stay', () => {
      const limiter = rate({ maxPeers: 1000, rateLimit: 0.001 });
      for (let n = 0; n < 7; n += 1) times(3, () => limiter.check(`violator-${n}`, 11));
      for (let n = 0; n < 7; n += 1) limiter.check(`drained-${n}`, 10);
      // Far nearer to fresh than those, and of sixteen that are looked at always some.
      for (let n = 0; n < 20_000; n += 1) limiter.check(`flood-${n}`);
      for (let n = 0; n < 7; n += 1) {
        expect(limiter.getViolationCount(`violator-${n}`)).toBe(3);
        expect(limiter.check(`drained-${n}`)[0]).toBe('delay');
      }
    });

    test('accepts a maxPeers of 1', () => {
      const limiter = rate({ maxPeers: 1 });
      times(3, () => limiter.check('a', 11));
      limiter.check('b', 10);
      expect(limiter.getStats()).toMatchObject({ peers: 1, totalViolations: 0, lossyEvictions: 1 });
    });
  });

  describe('OrderbookRateLimiter', () => {
    const ban = (limiter: OrderbookRateLimiter, key: string) => {
      times(4, () => limiter.check(key));
      expect(limiter.isBanned(key)).toBe(true);
    };

    test('evicts a peer with an expired interval, then the peer with the interval that ends first', () => {
      const limiter = orderbook();
      limiter.check('over');
      clock.now += 10;
      for (const key of ['first', 'second', 'third']) {
        limiter.check(key);
        clock.now += 1;
      }
      limiter.check('newcomer');
      expect(limiter.getStatistics()).toMatchObject({ evictions: 1, lossyEvictions: 0 });
      limiter.check('another');
      expect(limiter.getStatistics()).toMatchObject({ evictions: 2, lossyEvictions: 1, peers: 4 });
      for (const key of ['second', 'third']) expect(limiter.check(key)).toBe(false);
      expect(limiter.check('first')).toBe(true);
    });

    test('evicts offenders but no banned peers, and then refuses newcomers', () => {
      const limiter = orderbook({ maxPeers: 3 });
      ban(limiter, 'banned');
      ban(limiter, 'banned too');
      times(2, () => limiter.check('violator'));
      clock.now += 50;
      expect(limiter.getViolationCount('violator')).toBe(1);
      expect(limiter.check('newcomer')).toBe(true);
      expect(limiter.getViolationCount('violator')).toBe(0);
      ban(limiter, 'newcomer');
      const before = limiter.getStatistics();
      expect(limiter.check('refused')).toBe(false);
      expect(limiter.open('refused').check()).toBe(false);
      const after = limiter.getStatistics();
      expect(after).toMatchObject({ peers: 3, refusedNewcomers: 2, evictions: 1 });
      expect(after.totalViolations).toBe(before.totalViolations);
      expect(after.verdicts.delay).toBe(before.verdicts.delay + 2);
      expect(after.bannedPeers).toEqual(['banned', 'banned too', 'newcomer']);
      expect(limiter.getViolationCount('refused')).toBe(0);
      // A ban that is over does not protect.
      clock.now += 50;
      expect(limiter.check('refused')).toBe(true);
      expect(limiter.isBanned('newcomer')).toBe(true);
      expect(limiter.getStatistics()).toMatchObject({ peers: 3, evictions: 2, lossyEvictions: 1 });
    });

    test.each([
      ['longer', 100],
      ['shorter', 5],
    ])(
      'treats a peer with an expired ban as a peer in its initial state, with bans %s than the interval',
      (_, banDuration) => {
        const limiter = orderbook({ interval: 50, banDuration, maxPeers: 3 });
        ban(limiter, 'lapsed');
        clock.now += banDuration - 1;
        times(2, () => limiter.check('violator'));
        clock.now += 1;
        limiter.check('unpunished');
        expect(limiter.getViolationCount('lapsed')).toBe(2);
        expect(limiter.check('newcomer')).toBe(true);
        expect(limiter.getViolationCount('lapsed')).toBe(0);
        expect(limiter.getViolationCount('violator')).toBe(1);
        expect(limiter.getStatistics()).toMatchObject({
          peers: 3,
          evictions: 1,
          lossyEvictions: 0,
        });
      },
    );

    test('keeps an offender although peers with expired bans are evicted', () => {
      const limiter = orderbook({ maxPeers: 1000, violationBanThreshold: 90 });
      for (let n = 0; n < 999; n += 1) times(92, () => limiter.check(`lapsed-${n}`));
      clock.now += 100;
      times(80, () => limiter.check('violator'));
      for (let n = 0; n < 3000; n += 1) {
        clock.now += 1e-3;
        limiter.check(`flood-${n}`);
      }
      expect(limiter.getViolationCount('violator')).toBe(79);
      expect(limiter.getStatistics()).toMatchObject({ peers: 1000, evictions: 3000 });
    });

    test('counts a peer with only a ban left after a cleanup, and evicts it after its ban', () => {
      const limiter = orderbook({ maxPeers: 2 });
      ban(limiter, 'a');
      ban(limiter, 'b');
      clock.now += 50;
      limiter.cleanupOldEntries(10);
      expect(limiter.getStatistics()).toMatchObject({ trackedPeers: 0, peers: 2 });
      expect(limiter.check('newcomer')).toBe(false);
      clock.now += 50;
      expect(limiter.check('newcomer')).toBe(true);
      expect(limiter.getStatistics()).toMatchObject({ trackedPeers: 1, peers: 2, evictions: 1 });
      // The other one of whom nothing else is known, and no interval that is not over.
      expect(limiter.check('another')).toBe(true);
      expect(limiter.getStatistics()).toMatchObject({ trackedPeers: 2, peers: 2, evictions: 2 });
      expect(limiter.getStatistics().lossyEvictions).toBe(0);
    });

    test('refuses a first request that starts a ban if no peer can be evicted', () => {
      const limiter = orderbook({ maxPeers: 2, violationBanThreshold: 0 });
      for (const key of ['a', 'b', 'c']) expect(limiter.check(key)).toBe(false);
      const first = limiter.getStatistics();
      expect(first).toMatchObject({ bannedPeers: ['a', 'b'], peers: 2, refusedNewcomers: 1 });
      expect(first).toMatchObject({
        bansBegun: 2,
        verdicts: { allow: 0, delay: 1, disconnect: 2 },
      });
      clock.now += 100;
      expect(limiter.isBanned('a')).toBe(false);
      expect(limiter.check('c')).toBe(false);
      expect(limiter.getStatistics()).toMatchObject({ bannedPeers: ['c'], peers: 2, evictions: 1 });
    });
  });

  describe('DirectConnectionRateLimiter', () => {
    const ban = (limiter: DirectConnectionRateLimiter, key: string) => {
      times(3, () => limiter.checkOrderbook(key));
      expect(limiter.isBanned(key)).toBe(true);
    };

    test('counts a connection once, whatever it does', () => {
      const limiter = direct();
      limiter.checkMessage('both');
      limiter.checkOrderbook('both');
      limiter.checkOrderbook('orderbook');
      limiter.checkMessage('message');
      expect(limiter.getStatistics()).toMatchObject({ peers: 3, trackedConnections: 2 });
      clock.now += 5;
      limiter.checkMessage('both');
      clock.now += 5;
      limiter.cleanupOldEntries(7);
      expect(limiter.getStatistics()).toMatchObject({ peers: 1, trackedConnections: 1 });
      limiter.removePeer('both');
      expect(limiter.getStatistics()).toMatchObject({ peers: 0 });
    });

    test('keeps a connection with state in either table before a connection without state', () => {
      const limiter = direct();
      limiter.checkOrderbook('both');
      clock.now += 10;
      limiter.checkMessage('both');
      limiter.checkMessage('drained', 10);
      limiter.checkOrderbook('orderbook');
      limiter.checkMessage('fresh');
      clock.now += 1;
      // Its bucket is full, and its interval not over.
      expect(limiter.checkMessage('newcomer', 10)).toBe(true);
      expect(limiter.getStatistics()).toMatchObject({ evictions: 1, lossyEvictions: 0 });
      expect(limiter.checkOrderbook('both')).toBe(false);
      clock.now += 19;
      // Only the table of orderbook requests has one that is fresh.
      limiter.checkMessage('drained', 10);
      limiter.checkMessage('newcomer', 10);
      limiter.checkMessage('both', 10);
      clock.now += 10;
      limiter.checkMessage('drained', 10);
      limiter.checkMessage('newcomer', 10);
      limiter.checkMessage('both', 10);
      expect(limiter.checkMessage('another', 10)).toBe(true);
      expect(limiter.getStatistics()).toMatchObject({ peers: 4, evictions: 2, lossyEvictions: 0 });
      expect(limiter.getStatistics().trackedConnections).toBe(4);
    });

    test('refuses newcomers if all connections are banned: messages, requests, handles and groups', () => {
      const limiter = direct({ maxPeers: 2 });
      ban(limiter, 'a');
      ban(limiter, 'b');
      expect(limiter.checkMessage('newcomer')).toBe(false);
      expect(limiter.checkOrderbook('newcomer')).toBe(false);
      const opened = limiter.open('newcomer');
      expect(opened.checkMessage()).toBe(false);
      expect(opened.checkOrderbook()).toBe(false);
      expect([...limiter.group(['newcomer', 'a', 'other']).check()]).toEqual([1, 2, 1]);
      expect(limiter.getStatistics()).toMatchObject({
        peers: 2,
        refusedNewcomers: 6,
        evictions: 0,
        totalViolations: 4,
        bansBegun: 2,
        verdicts: { allow: 2, delay: 8, disconnect: 3 },
      });
      clock.now += 100;
      expect(opened.checkMessage()).toBe(true);
      expect(opened.checkOrderbook()).toBe(true);
      expect([...limiter.group(['newcomer', 'other']).check()]).toEqual([0, 0]);
      expect(limiter.getStatistics()).toMatchObject({ peers: 2, evictions: 2, lossyEvictions: 0 });
    });

    test('protects a connection by its violations but not by an expired ban', () => {
      const limiter = direct({ maxPeers: 3 });
      const innocent = { key: 'innocent', violations: 0, banSecondsLeft: 100, idleSeconds: 0 };
      const snapshot = { format: 1, limiter: 'DirectConnectionRateLimiter' } as const;
      limiter.restore({ ...snapshot, peers: [innocent] });
      ban(limiter, 'two');
      clock.now += 100;
      for (const key of ['innocent', 'two']) expect(limiter.isBanned(key)).toBe(false);
      times(2, () => limiter.checkOrderbook('one'));
      limiter.checkOrderbook('newcomer');
      // As a fresh one the innocent goes first.
      expect(limiter.getStatistics()).toMatchObject({ evictions: 1, lossyEvictions: 0 });
      limiter.checkOrderbook('newcomer');
      limiter.checkOrderbook('another');
      expect(limiter.getViolationCount('two')).toBe(2);
      expect(limiter.getStatistics()).toMatchObject({ evictions: 2, totalViolations: 3 });
    });

    test('ranks a connection with an expired ban by its tokens and its interval', () => {
      const limiter = direct({ maxPeers: 3, banDuration: 20 });
      ban(limiter, 'lapsed');
      clock.now += 20;
      // The interval of the lapsed one has 10 seconds left, its violations count for nothing.
      times(3, () => limiter.checkMessage('3 missing'));
      times(2, () => limiter.checkOrderbook('violator'));
      expect(limiter.checkMessage('newcomer', 10)).toBe(true);
      expect(limiter.getTokens('3 missing')).toBe(10);
      expect(limiter.getViolationCount('lapsed')).toBe(2);
      times(10, () => limiter.checkMessage('newcomer 2'));
      expect(limiter.getViolationCount('lapsed')).toBe(2);
      clock.now += 1;
      expect(limiter.checkMessage('newcomer 3', 10)).toBe(true);
      expect(limiter.getStatistics()).toMatchObject({ peers: 3, evictions: 3, lossyEvictions: 3 });
      expect(limiter.getViolationCount('violator')).toBe(1);
      clock.now += 9;
      limiter.checkMessage('newcomer 3', 9);
      // By now it is as a fresh one.
      expect(limiter.checkMessage('newcomer 4')).toBe(true);
      expect(limiter.getViolationCount('lapsed')).toBe(0);
      expect(limiter.getStatistics()).toMatchObject({ peers: 3, evictions: 4, lossyEvictions: 3 });
    });
  });
});
