// The search for a peer to evict, in limiters with more peers than one sample: after a cleanup has emptied a part of the
// table, during a restore, and if nearly all peers are banned.

import type { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES } from './support/limiters.js';
import { type Limiter, smallLimiters, times } from './support/small-limiters.js';

describe.each(ENGINES)('On the %s engine', (engine) => {
  const { clock, rate, orderbook, direct } = smallLimiters(engine);

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
});
