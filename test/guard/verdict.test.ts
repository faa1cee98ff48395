import { Server } from 'node:net';
import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { guardLineServer } from 'relay-limiter/net';
import { SharedRateLimiter } from 'relay-limiter/redis';
import { describe, expect, test } from 'vitest';
import {
  type AnyLimiter,
  banSecondsLeft,
  checkAny,
  isBanned,
  openPeer,
  recordOffence,
  requireBanning,
  requireLimiter,
} from '../../dist/limiters/verdict.js';
import { codeOf, ENGINES, manualClock } from '../support/limiters.js';

describe.each(ENGINES)('A verdict on the %s engine', (engine) => {
  /** Checks by key and by an opened peer must return the same verdicts. */
  const bothWays = (make: (clock: () => number) => AnyLimiter) => {
    const clock = manualClock();
    const limiters = [make(clock), make(clock)] as const;
    const peer = openPeer(limiters[1], 'a');
    const check = (cost?: number) => {
      const verdict = checkAny(limiters[0], 'a', cost);
      expect(peer.check(cost)).toEqual(verdict);
      return verdict;
    };
    return { clock, check };
  };

  test('of a RateLimiter is the result of its check, and has a delay with DISCONNECT too', () => {
    const { clock, check } = bothWays(
      (clock) =>
        new RateLimiter({ rateLimit: 2, burstLimit: 3, disconnectThreshold: 3, engine, clock }),
    );
    expect(check(2)).toEqual(['allow', 0]);
    expect(check(2)).toEqual(['delay', 0.5]);
    expect(check(9)).toEqual(['delay', Infinity]);
    expect(check(2)).toEqual(['disconnect', 0.5]);
    expect(check(3)).toEqual(['disconnect', 1]);
    expect(check(9)).toEqual(['disconnect', Infinity]);
    clock.now += 0.5;
    expect(check(2)).toEqual(['allow', 0]);
    expect(check()).toEqual(['disconnect', 0.5]);
  });

  test('of a DirectConnectionRateLimiter has a sufficient delay, and the ban in the end', () => {
    const clock = manualClock();
    const limiter = new DirectConnectionRateLimiter({
      messageRatePerSec: 4,
      messageBurst: 3,
      orderbookBanThreshold: 2,
      banDuration: 60,
      engine,
      clock,
    });
    const peer = openPeer(limiter, 'a');
    expect(checkAny(limiter, 'a', 3)).toEqual(['allow', 0]);
    expect(peer.check(2)).toEqual(['delay', 0.5]);
    expect(checkAny(limiter, 'a', 2)).toEqual(['delay', 0.5]);
    expect(peer.check(4)).toEqual(['delay', Infinity]);
    clock.now += 0.5;
    expect(peer.check(2)).toEqual(['allow', 0]);
    expect([
      recordOffence(limiter, 'a'),
      recordOffence(limiter, 'a'),
      recordOffence(limiter, 'a'),
    ]).toEqual([false, false, true]);
    expect(isBanned(limiter, 'a')).toBe(true);
    expect(peer.check()).toEqual(['disconnect', 60]);
    clock.now += 12.5;
    expect(peer.check()).toEqual(['disconnect', 47.5]);
    expect(checkAny(limiter, 'a')).toEqual(['disconnect', 47.5]);
    expect(banSecondsLeft(limiter, 'a')).toBe(47.5);
    clock.now += 47.5;
    expect([peer.check(), banSecondsLeft(limiter, 'a')]).toEqual([['allow', 0], 0]);
  });

  test('of an OrderbookRateLimiter has the current interval as delay, and the ban in the end', () => {
    const { clock, check } = bothWays(
      (clock) =>
        new OrderbookRateLimiter({
          interval: 10,
          violationWarningThreshold: 2,
          violationSevereThreshold: 3,
          violationBanThreshold: 4,
          banDuration: 1000,
          engine,
          clock,
        }),
    );
    expect(check()).toEqual(['allow', 0]);
    expect(check(0)).toEqual(['allow', 0]);
    expect(check()).toEqual(['delay', 10]);
    expect(check()).toEqual(['delay', 60]);
    clock.now += 60;
    expect(check()).toEqual(['allow', 0]);
    expect(check()).toEqual(['delay', 300]);
    expect(check()).toEqual(['delay', 300]);
    expect(check()).toEqual(['disconnect', 1000]);
    clock.now += 999.5;
    expect(check()).toEqual(['disconnect', 0.5]);
    clock.now += 0.5;
    expect(check()).toEqual(['allow', 0]);
  });

  test('of a RateLimiter is never a ban', () => {
    const limiter = new RateLimiter({ disconnectThreshold: 0, engine });
    checkAny(limiter, 'a', 1e9);
    expect([isBanned(limiter, 'a'), banSecondsLeft(limiter, 'a')]).toEqual([false, 0]);
    expect(codeOf(() => requireBanning(limiter, 'limiter'))).toBe('ERR_LIMITER_OPTION');
  });
});

test('requireLimiter accepts all limiters with keys, and rejects other values', () => {
  const shared = new SharedRateLimiter({ mode: 'local', rateLimit: 1 });
  for (const value of [new RateLimiter(), new OrderbookRateLimiter(), shared]) {
    expect(() => requireLimiter(value, 'limiter')).not.toThrow();
  }
  for (const value of [undefined, null, 1, {}, { check() {} }, new Map()]) {
    expect(codeOf(() => requireLimiter(value, 'limiter'))).toBe('ERR_LIMITER_OPTION');
  }
});

test('A SharedRateLimiter, which bans nobody, is rejected for expulsions', () => {
  const expulsions = new SharedRateLimiter({ mode: 'local' }) as never;
  expect(() => guardLineServer(new Server(), { expulsions })).toThrow(
    expect.objectContaining({
      code: 'ERR_LIMITER_OPTION',
      message: expect.stringMatching(/^expulsions must be a .* got a SharedRateLimiter/),
    }),
  );
});
