// maxPeers, on both engines: who goes for a newcomer, who never does, and what is counted. Limiters
// with at most sixteen peers look at all of them, so there it is no chance who goes.

import {
  type Ban,
  DirectConnectionRateLimiter,
  type DirectConnectionRateLimiterOptions,
  OrderbookRateLimiter,
  type OrderbookRateLimiterOptions,
  type PeerGroup,
  RateLimiter,
  type RateLimiterOptions,
  TokenBucket,
} from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES, manualClock } from './support/limiters.js';
import { type Random, seeded } from './support/random.js';
import { printSeedOnFailure, SEED } from './support/seed.js';

type Limiter = RateLimiter | OrderbookRateLimiter | DirectConnectionRateLimiter;

describe.each(ENGINES)('On the %s engine', (engine) => {
  const clock = manualClock();

  const rate = (options: RateLimiterOptions = {}) =>
    new RateLimiter({ rateLimit: 1, burstLimit: 10, maxPeers: 4, engine, clock, ...options });
  // Who breaks the limit twice is banned by the next request.
  const orderbook = (options: OrderbookRateLimiterOptions = {}) =>
    new OrderbookRateLimiter({
      interval: 10,
      violationBanThreshold: 2,
      violationWarningThreshold: 50,
      banDuration: 100,
      maxPeers: 4,
      engine,
      clock,
      ...options,
    });
  // Who breaks the limit twice is banned.
  const direct = (options: DirectConnectionRateLimiterOptions = {}) =>
    new DirectConnectionRateLimiter({
      messageRatePerSec: 1,
      messageBurst: 10,
      orderbookInterval: 30,
      orderbookBanThreshold: 2,
      banDuration: 100,
      maxPeers: 4,
      engine,
      clock,
      ...options,
    });

  const times = (n: number, act: () => unknown) => {
    for (let i = 0; i < n; i += 1) act();
  };
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

  describe('a limiter finds a peer to evict', () => {
    const MOST = 5000;

    interface Kind {
      name: string;
      make(maxPeers: number): Limiter;
      /** What a newcomer asks first. */
      ask(limiter: Limiter, key: string): boolean;
      /** As often as it takes for a violation. */
      violate(limiter: Limiter, key: string): void;
      cleanup(limiter: Limiter): unknown;
    }

    const RATE: Kind = {
      name: 'RateLimiter',
      make: (maxPeers) => rate({ maxPeers }),
      ask: (limiter, key) => (limiter as RateLimiter).check(key)[0] === 'allow',
      violate: (limiter, key) => (limiter as RateLimiter).check(key, 11),
      cleanup: (limiter) => (limiter as RateLimiter).cleanupOldPeers(3600, { budgetMs: 0 }),
    };
    const ORDERBOOK: Kind = {
      name: 'OrderbookRateLimiter',
      make: (maxPeers) => orderbook({ maxPeers }),
      ask: (limiter, key) => (limiter as OrderbookRateLimiter).check(key),
      violate: (limiter, key) => times(2, () => (limiter as OrderbookRateLimiter).check(key)),
      cleanup: (limiter) =>
        (limiter as OrderbookRateLimiter).cleanupOldEntries(3600, { budgetMs: 0 }),
    };
    const DIRECT: Kind = {
      name: 'DirectConnectionRateLimiter',
      make: (maxPeers) => direct({ maxPeers }),
      ask: (limiter, key) => (limiter as DirectConnectionRateLimiter).checkOrderbook(key),
      violate: (limiter, key) =>
        times(2, () => (limiter as DirectConnectionRateLimiter).checkOrderbook(key)),
      cleanup: (limiter) =>
        (limiter as DirectConnectionRateLimiter).cleanupOldEntries(3600, { budgetMs: 0 }),
    };

    const peersOf = (limiter: Limiter) => limiter.getOverview().peers;

    /** Fills a limiter with violators, and cleans up until so many parts of it are empty: [gone, left]. */
    const fillAndEmpty = (kind: Kind, limiter: Limiter, prefix: string, parts: number) => {
      const keys = Array.from({ length: MOST }, (_, n) => `${prefix}-${n}`);
      for (const key of keys) kind.violate(limiter, key);
      clock.now += 4000;
      for (let part = 0; part < parts; part += 1) {
        const before = peersOf(limiter);
        while (peersOf(limiter) === before) kind.cleanup(limiter);
      }
      const isGone = (key: string) => limiter.getViolationCount(key) === 0;
      return [keys.filter(isGone), keys.filter((key) => !isGone(key))] as const;
    };

    // At the bound, with a part that a cleanup has emptied; and keys that belong there.
    const withEmptyPart = (kind: Kind) => {
      const limiter = kind.make(MOST);
      // Two parts are more than the one that is emptied next: of those that are left, nobody belongs there.
      const [, elsewhere] = fillAndEmpty(kind, limiter, 'other', 2);
      limiter.clear();
      const [keys] = fillAndEmpty(kind, limiter, 'peer', 1);
      for (const key of elsewhere.slice(0, keys.length)) kind.ask(limiter, key);
      expect(peersOf(limiter)).toBe(MOST);
      return { limiter, keys };
    };

    test.each([RATE, ORDERBOOK, DIRECT])(
      'of a $name after a cleanup has emptied a part of the table',
      (kind) => {
        const { limiter, keys } = withEmptyPart(kind);
        for (const key of keys) expect(kind.ask(limiter, key)).toBe(true);
        expect(limiter.getOverview()).toMatchObject({
          peers: MOST,
          evictions: keys.length,
          refusedNewcomers: 0,
        });
      },
    );

    test.each([RATE, ORDERBOOK, DIRECT])('of a $name during a restore', (kind) => {
      const { limiter, keys } = withEmptyPart(kind);
      const peers = keys.map((key) => {
        return { key, violations: 5, banSecondsLeft: null, idleSeconds: 1 };
      });
      expect(limiter.restore({ format: 1, limiter: kind.name, peers })).toBe(keys.length);
      expect(peersOf(limiter)).toBe(MOST);
    });

    // Three refusals, or two and one more request, end in a ban.
    const ban = (kind: Kind, limiter: Limiter, key: string) =>
      times(4, () => kind.ask(limiter, key));

    test.each([ORDERBOOK, DIRECT])(
      'of a $name if all but one of a thousand peers are banned',
      (kind) => {
        for (const place of [0, 500, 999]) {
          const limiter = kind.make(1000);
          for (let n = 0; n < 1000; n += 1) {
            if (n === place) kind.violate(limiter, 'violator');
            else ban(kind, limiter, `banned-${n}`);
          }
          const peer = { key: 'old', violations: 1, banSecondsLeft: null, idleSeconds: 9 };
          const snapshot = { format: 1, limiter: kind.name, peers: [peer] };
          // It is missed less than the one that is there.
          expect(limiter.restore(snapshot)).toBe(0);
          expect(kind.ask(limiter, 'newcomer')).toBe(true);
          expect(limiter.getViolationCount('violator')).toBe(0);
          expect(limiter.restore({ ...snapshot, peers: [{ ...peer, key: 'new' }] })).toBe(1);
          expect(kind.ask(limiter, 'another')).toBe(true);
          ban(kind, limiter, 'another');
          expect(kind.ask(limiter, 'late')).toBe(false);
          expect(limiter.getOverview()).toMatchObject({ evictions: 3, refusedNewcomers: 1 });
        }
      },
    );

    test.each([ORDERBOOK, DIRECT])(
      'of a $name if all peers are banned and one ban has expired',
      (kind) => {
        for (const isAlone of [false, true]) {
          const limiter = kind.make(1000);
          ban(kind, limiter, 'over');
          clock.now += 50;
          for (let n = 1; n < 1000; n += 1) ban(kind, limiter, `banned-${n}`);
          // Of the orderbook's peers it leaves nothing but the bans.
          const cleaned = limiter as OrderbookRateLimiter;
          if (isAlone) cleaned.cleanupOldEntries(-1);
          expect(kind.ask(limiter, 'newcomer')).toBe(false);
          clock.now += 50;
          expect(kind.ask(limiter, 'newcomer')).toBe(true);
          expect(limiter.getViolationCount('over')).toBe(0);
          ban(kind, limiter, 'newcomer');
          expect(kind.ask(limiter, 'another')).toBe(false);
          expect(limiter.getOverview()).toMatchObject({ evictions: 1, refusedNewcomers: 2 });
          // A cleanup removes the bans that are over, and no newcomer is refused for one that it missed.
          clock.now += 49;
          ban(kind, limiter, 'late');
          cleaned.cleanupOldEntries(1e6);
          clock.now += 1.5;
          expect(kind.ask(limiter, 'another')).toBe(true);
        }
      },
    );
  });

  test('a limiter keeps a ban, and the buckets of honest peers, through 200,000 new keys', () => {
    const options = { engine, clock, maxPeers: 2000 };
    const limiter = new DirectConnectionRateLimiter({ ...options, orderbookBanThreshold: 1 });
    const book = new OrderbookRateLimiter({ ...options, violationBanThreshold: 1 });
    times(2, () => limiter.checkOrderbook('banned'));
    times(3, () => book.check('banned'));
    const honest = Array.from({ length: 50 }, (_, n) => limiter.open(`honest-${n}`));
    const alike = honest.map(() => new TokenBucket(20, 5, { clock }));
    const banEnds = clock.now + 3600;
    for (const peer of honest) times(15, () => peer.checkMessage());
    for (const bucket of alike) times(15, () => bucket.consume());
    for (let n = 0; n < 200_000; n += 1) {
      clock.now += 1e-4;
      limiter.checkMessage(`flood-${n}`);
      if (n % 10 === 0) book.check(`flood-${n}`);
      // Who comes again too soon is told so, and stays a violator.
      if (n % 20_000 === 0) expect(book.check(`nick-${n}`)).toBe(true);
      if (n % 20_000 === 5000) expect(book.check(`nick-${n - 5000}`)).toBe(false);
      if (n % 2000 !== 0) continue;
      // At the rate that they may have: of one that was forgotten the bucket would be full.
      for (const [i, peer] of honest.entries()) {
        expect(peer.checkMessage()).toBe(alike[i]?.consume());
        expect(limiter.getTokens(peer.key)).toBe(alike[i]?.tokens);
      }
    }
    for (let n = 0; n < 200_000; n += 20_000) {
      expect(book.getViolationCount(`nick-${n}`)).toBe(1);
    }
    expect(limiter.getStatistics()).toMatchObject({ peers: 2000, refusedNewcomers: 0 });
    expect(book.getStatistics()).toMatchObject({ peers: 2000, refusedNewcomers: 0 });
    for (const banned of [limiter, book]) expect(banned.isBanned('banned')).toBe(true);
    // A flood without end in the last instant.
    for (const peer of honest) while (peer.checkMessage());
    for (let n = 0; n < 20_000; n += 1) limiter.checkMessage(`last-${n}`);
    for (const peer of honest) expect(peer.checkMessage()).toBe(false);
    clock.now = banEnds - 1e-3;
    for (const banned of [limiter, book]) expect(banned.isBanned('banned')).toBe(true);
    clock.now = banEnds;
    for (const banned of [limiter, book]) expect(banned.isBanned('banned')).toBe(false);
  });

  // Of the fixed seed it is known that each limiter evicts.
  test.each([
    ['a fixed', 1],
    ['any', SEED],
  ])(
    'a limiter never stores more than maxPeers peers through random operations of %s seed',
    (_, seed) => {
      printSeedOnFailure();
      const random = seeded(seed);
      for (const most of [1, 5, 16, 60, 700]) {
        // When the ban of each ends.
        const bans = Array.from({ length: 4 }, () => new Map<string, number>());
        const bounded = (i: number) => ({
          maxPeers: most,
          onBan: ({ key }: Ban) => void bans[i]?.set(key, clock.now + 100),
        });
        const limiters = [
          rate({ ...bounded(0), disconnectThreshold: 5 }),
          orderbook(bounded(1)),
          orderbook({ ...bounded(2), violationBanThreshold: 0 }),
          direct(bounded(3)),
        ] as const;
        const keys = Array.from({ length: most * 3 }, (_, n) => `peer-${n}`);
        const groups = limiters.map((limiter) => {
          return 'group' in limiter ? limiter.group(keys.slice(0, most + 5)) : undefined;
        });
        const opened = limiters.map((limiter) => keys.map((key) => limiter.open(key)));
        for (let n = 0; n < 5000; n += 1) {
          if (random() < 0.1) clock.now += random() * 3;
          if (random() < 0.001) clock.now += 60;
          for (const [i, limiter] of limiters.entries()) {
            const begun = bans[i] as Map<string, number>;
            const dice = random();
            if (dice < 0.02) putBack(limiter, random.pick(keys), random, begun);
            else if (dice < 0.02 + 0.5 / most) checkMembers(groups[i], begun);
            else if (dice < 0.4) checkOpened(random.pick(opened[i] ?? []), random.below(7));
            else operate(limiter, random.pick(keys), random.below(1000), begun);
            if (n % 16 === 0) requireBanned(limiter, begun);
            if (n % 100 === 0) bounds(limiter, most);
          }
        }
        for (const limiter of limiters) {
          if (seed === 1) expect(bounds(limiter, most).evictions).toBeGreaterThan(0);
          for (const key of keys) limiter.removePeer(key);
          expect(bounds(limiter, most)).toMatchObject({ peers: 0, totalViolations: 0 });
        }
      }
    },
  );

  function operate(limiter: Limiter, key: string, dice: number, begun: Map<string, number>) {
    if (dice < 5) {
      limiter.removePeer(key);
      begun.delete(key);
    } else if (limiter instanceof RateLimiter) {
      if (dice < 7) limiter.cleanupOldPeers(5, { budgetMs: 0 });
      else limiter.check(key, dice % 7);
    } else if (dice < 7) limiter.cleanupOldEntries(5, { budgetMs: 0 });
    else if (dice < 50) limiter.isBanned(key);
    else if (limiter instanceof OrderbookRateLimiter) limiter.check(key);
    else if (dice % 2) limiter.checkMessage(key, dice % 5);
    else limiter.checkOrderbook(key);
  }

  type AnyPeer = ReturnType<Limiter['open']>;

  function checkOpened(peer: AnyPeer, dice: number) {
    if (!('check' in peer)) dice % 2 ? peer.checkMessage(dice) : peer.checkOrderbook();
    else peer.check(dice);
  }

  function checkMembers(group: PeerGroup | undefined, begun: Map<string, number>) {
    const verdicts = group?.check(2) ?? [];
    for (const [i, key] of [...(group?.keys() ?? [])].entries()) {
      const isBanned = (begun.get(key) ?? 0) > clock.now;
      if (isBanned && verdicts[i] !== 2) expect.fail(`the ban of ${key} ended early`);
    }
  }

  /** Restores a violator, or a banned one. */
  function putBack(limiter: Limiter, key: string, random: Random, begun: Map<string, number>) {
    const isBanned = !(limiter instanceof RateLimiter) && random() < 0.5;
    const banSecondsLeft = isBanned ? 1 + random() * 99 : null;
    const idleSeconds = random() < 0.5 ? null : random() * 50;
    const peer = { key, violations: 1 + random.below(9), banSecondsLeft, idleSeconds };
    const name = limiter.constructor.name;
    if (limiter.restore({ format: 1, limiter: name, peers: [peer] }) === 0) return;
    expect(limiter.getViolationCount(key)).toBeGreaterThanOrEqual(peer.violations);
    // Times that were subtracted may be off by the last bit.
    const end = clock.now + (banSecondsLeft ?? 0) - 1e-6;
    if (isBanned) begun.set(key, Math.max(end, begun.get(key) ?? 0));
  }

  /** One that is banned, until its ban ends. */
  function requireBanned(limiter: Limiter, begun: Map<string, number>) {
    const [key, end] = [...begun][0] ?? [];
    if (key === undefined || end === undefined || limiter instanceof RateLimiter) return;
    if (clock.now >= end) begun.delete(key);
    else if (!limiter.isBanned(key)) expect.fail(`the ban of ${key} ended early`);
  }

  function bounds(limiter: Limiter, most: number) {
    const stats = limiter instanceof RateLimiter ? limiter.getStats() : limiter.getStatistics();
    expect(stats.peers).toBeLessThanOrEqual(most);
    expect(stats.lossyEvictions).toBeLessThanOrEqual(stats.evictions);
    return stats;
  }
});
