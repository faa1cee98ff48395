// RateLimiter.peek, on both engines.

import type { RateLimiterOptions } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { manualClock, ODD_KEYS } from './support/limiters.js';
import { seeded } from './support/random.js';
import { printSeedOnFailure, SEED } from './support/seed.js';
import { comparable } from './support/snapshots.js';
import { TABLES } from './support/tables.js';

describe.each(TABLES)('RateLimiter.peek on the $name', ({ engine, isShared, RateLimiter }) => {
  const limiterOf = (options: RateLimiterOptions = {}) => {
    const clock = manualClock();
    return {
      clock,
      limiter: new RateLimiter({ rateLimit: 2, burstLimit: 10, engine, clock, ...options }),
    };
  };

  test('returns a full bucket for an unknown peer, which stays unknown', () => {
    const { limiter } = limiterOf();
    expect(limiter.peek('alice')).toEqual({
      verdict: ['allow', 0],
      limit: 10,
      remaining: 10,
      resetSeconds: 0,
    });
    expect(limiter.open('bob').peek(11)).toMatchObject({
      verdict: ['delay', Infinity],
      remaining: 10,
    });
    expect(limiter.getOverview()).toMatchObject({ peers: 0, totalViolations: 0 });
  });

  test('returns the tokens as of now, and the seconds until the bucket is full', () => {
    const { clock, limiter } = limiterOf();
    const peer = limiter.open('alice');
    limiter.check('alice', 9);
    expect(limiter.peek('alice', 2)).toEqual({
      verdict: ['delay', 0.5],
      limit: 10,
      remaining: 1,
      resetSeconds: 4.5,
    });
    clock.now += 0.25;
    expect(peer.peek(2)).toMatchObject({ verdict: ['delay', 0.25], remaining: 1.5 });
    expect(peer.peek()).toMatchObject({ verdict: ['allow', 0], resetSeconds: 4.25 });
    clock.now += 4.25;
    expect(peer.peek(10)).toMatchObject({ verdict: ['allow', 0], remaining: 10, resetSeconds: 0 });
    clock.now += 1000;
    expect(peer.peek()).toMatchObject({ remaining: 10, resetSeconds: 0 });
    // getTokens is as of the last check.
    expect(limiter.getTokens('alice')).toBe(1);
  });

  test('says disconnect only if the refusal would reach the threshold', () => {
    const { limiter } = limiterOf({ disconnectThreshold: 3 });
    limiter.check('alice', 10);
    for (const verdict of ['delay', 'delay', 'disconnect', 'disconnect']) {
      expect(limiter.peek('alice').verdict[0]).toBe(verdict);
      expect(limiter.peek('alice', 0).verdict).toEqual(['allow', 0]);
      expect(limiter.check('alice')[0]).toBe(verdict);
    }
    expect(limiter.peek('alice').verdict).toEqual(['disconnect', 0]);
    expect(limiterOf({ disconnectThreshold: 0 }).limiter.peek('alice', 11).verdict).toEqual([
      'disconnect',
      0,
    ]);
  });

  test('returns the result of the check that follows, and changes nothing', () => {
    printSeedOnFailure();
    const random = seeded(SEED);
    const { clock, limiter } = limiterOf({
      rateLimit: 2.7,
      disconnectThreshold: 20,
      maxPeers: 20,
    });
    const peers = ODD_KEYS.slice(0, 24).map((key) => limiter.open(key));
    const stateOf = () => {
      const { memoryBytes: _, ...overview } = limiter.getOverview();
      return { overview, snapshot: comparable(limiter.snapshot()) };
    };
    for (let n = 0; n < 3000; n += 1) {
      clock.now += random.pick([0, 0, 0.1, 1 / 3, 2, -1]);
      const peer = random.pick(peers);
      const cost = random.pick([undefined, 0, 0.1, 1, 3.7, 10, 11]);
      const before = n % 100 === 0 ? stateOf() : undefined;
      const tokens = limiter.getTokens(peer.key);
      const peeked = limiter.peek(peer.key, cost);
      expect(peer.peek(cost)).toEqual(peeked);
      expect(limiter.getTokens(peer.key)).toBe(tokens);
      if (before !== undefined) expect(stateOf()).toEqual(before);
      const verdict = peer.check(cost);
      expect(peeked.verdict).toEqual(verdict);
      const taken = verdict[0] === 'allow' ? (cost ?? 1) : 0;
      expect(limiter.getTokens(peer.key)).toBe(peeked.remaining - taken);
    }
  });

  test('counts a bucket that a snapshot has restored by its digest', () => {
    const slow = { rateLimit: 0.125, burstLimit: 10 };
    const { limiter } = limiterOf(slow);
    const keys = ['alice', 'long'.repeat(50)];
    for (const key of keys) limiter.check(key, 6);
    const { clock, limiter: after } = limiterOf(slow);
    expect(after.restore(JSON.parse(JSON.stringify(limiter.snapshot())))).toBe(2);
    clock.now += 8;
    for (const key of keys) {
      expect(after.peek(key, 6)).toEqual({
        verdict: ['delay', 8],
        limit: 10,
        remaining: 5,
        resetSeconds: 40,
      });
    }
    expect(after.getOverview().peers).toBe(isShared ? 2 : 0);
    expect(after.check('alice', 5)).toEqual(['allow', 0]);
    // A second limiter's snapshot is under another secret.
    const { limiter: busy } = limiterOf(slow);
    busy.check('bob');
    busy.restore(limiter.snapshot());
    expect(keys.map((key) => busy.peek(key).remaining)).toEqual(isShared ? [10, 10] : [4, 4]);
  });

  test('reads the clock once, and the engine reads its own', () => {
    const { clock, limiter } = limiterOf();
    limiter.peek('alice');
    expect(clock.reads).toBe(1);
    const own = new RateLimiter({ rateLimit: 1000, burstLimit: 1e6, engine });
    own.check('alice', 1e6);
    const first = own.peek('alice').remaining;
    expect(own.peek('alice').remaining).toBeGreaterThanOrEqual(first);
    expect(own.getTokens('alice')).toBe(0);
  });
});
