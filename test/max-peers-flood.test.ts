// maxPeers through many operations: a flood of new keys, and random calls with random snapshots.

import {
  type Ban,
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  type PeerGroup,
  RateLimiter,
  TokenBucket,
} from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES } from './support/limiters.js';
import { type Random, seeded } from './support/random.js';
import { printSeedOnFailure, SEED } from './support/seed.js';
import { type Limiter, smallLimiters, times } from './support/small-limiters.js';

describe.each(ENGINES)('On the %s engine', (engine) => {
  const { clock, rate, orderbook, direct } = smallLimiters(engine);

  test('a limiter keeps a ban, and the buckets of honest peers, through 50,000 new keys', () => {
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
    for (let n = 0; n < 50_000; n += 1) {
      clock.now += 4e-4;
      limiter.checkMessage(`flood-${n}`);
      if (n % 10 === 0) book.check(`flood-${n}`);
      // Who comes again too soon is told so, and stays a violator.
      if (n % 5000 === 0) expect(book.check(`nick-${n}`)).toBe(true);
      if (n % 5000 === 1250) expect(book.check(`nick-${n - 1250}`)).toBe(false);
      if (n % 500 !== 0) continue;
      // At the rate that they may have: of one that was forgotten the bucket would be full.
      for (const [i, peer] of honest.entries()) {
        expect(peer.checkMessage()).toBe(alike[i]?.consume());
        expect(limiter.getTokens(peer.key)).toBe(alike[i]?.tokens);
      }
    }
    for (let n = 0; n < 50_000; n += 5000) {
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
