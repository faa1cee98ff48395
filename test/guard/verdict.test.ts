import { Server } from 'node:net';
import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { guardConnections, guardLineServer } from 'relay-limiter/net';
import { SharedRateLimiter } from 'relay-limiter/redis';
import { guardWebSockets } from 'relay-limiter/websocket';
import { guardWebSocketServer } from 'relay-limiter/ws';
import { describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
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

test('requireLimiter rejects values that are not limiters', () => {
  // The last value is a limiter of relay-limiter/redis, whose checks return promises.
  const shared = new SharedRateLimiter({ mode: 'local', rateLimit: 1 });
  for (const value of [undefined, null, 1, {}, { check() {} }, new Map(), shared]) {
    expect(codeOf(() => requireLimiter(value, 'limiter'))).toBe('ERR_LIMITER_OPTION');
  }
});

describe('A SharedRateLimiter, whose checks return promises, is rejected', () => {
  const limiter = new SharedRateLimiter({ mode: 'local' }) as never;
  const refusal = expect.objectContaining({
    code: 'ERR_LIMITER_OPTION',
    message: expect.stringMatching(/ must be a .* got a SharedRateLimiter: call its checkAsync/),
  });

  test.each<[string, () => unknown]>([
    ['for expulsions', () => guardLineServer(new Server(), { expulsions: limiter })],
    [
      'for deliveries',
      () =>
        guardWebSocketServer(new WebSocketServer({ noServer: true }), { delivery: { limiter } }),
    ],
    ['for messages of web-standard sockets', () => guardWebSockets({ messages: { limiter } })],
    ['for web-standard sockets', () => guardWebSockets({ connections: { limiter } })],
    ['before the protocol', () => guardConnections(new Server(), { connections: { limiter } })],
  ])('%s', (_, guard) => {
    expect(guard).toThrow(refusal);
  });
});
