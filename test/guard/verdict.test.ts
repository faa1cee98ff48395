import { Server } from 'node:net';
import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { rateLimit } from 'relay-limiter/http';
import { guardLineServer } from 'relay-limiter/net';
import { SharedRateLimiter } from 'relay-limiter/redis';
import { guardWebSocketServer } from 'relay-limiter/ws';
import { describe, expect, test } from 'vitest';
import type { WebSocketServer } from 'ws';
import {
  type AnyLimiter,
  isBanned,
  judge,
  offend,
  openPeer,
  requireBanning,
  requireLimiter,
} from '../../dist/limiters/verdict.js';
import { codeOf, ENGINES, manualClock } from '../support/limiters.js';

describe.each(ENGINES)('verdicts on the %s engine', (engine) => {
  /** By key and as an opened peer: the two ways must answer the same. */
  const both = (make: (clock: () => number) => AnyLimiter) => {
    const clock = manualClock();
    const limiters = [make(clock), make(clock)] as const;
    const peer = openPeer(limiters[1], 'a');
    const ask = (cost?: number) => {
      const verdict = judge(limiters[0], 'a', cost);
      expect(peer.check(cost)).toEqual(verdict);
      return verdict;
    };
    return { clock, ask };
  };

  test('of a RateLimiter are its own', () => {
    const { ask } = both(
      (clock) =>
        new RateLimiter({ rateLimit: 2, burstLimit: 3, disconnectThreshold: 3, engine, clock }),
    );
    expect(ask(2)).toEqual(['allow', 0]);
    expect(ask(2)).toEqual(['delay', 0.5]);
    expect(ask(9)).toEqual(['delay', Infinity]);
    expect(ask(2)).toEqual(['disconnect', 0]);
  });

  test('of a DirectConnectionRateLimiter wait long enough, and end with its ban', () => {
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
    expect(judge(limiter, 'a', 3)).toEqual(['allow', 0]);
    expect(peer.check(2)).toEqual(['delay', 0.5]);
    expect(judge(limiter, 'a', 2)).toEqual(['delay', 0.5]);
    expect(peer.check(4)).toEqual(['delay', Infinity]);
    clock.now += 0.5;
    expect(peer.check(2)).toEqual(['allow', 0]);
    expect([offend(limiter, 'a'), offend(limiter, 'a'), offend(limiter, 'a')]).toEqual([
      false,
      false,
      true,
    ]);
    expect(isBanned(limiter, 'a')).toBe(true);
    expect(peer.check()).toEqual(['disconnect', 60]);
    expect(judge(limiter, 'a')).toEqual(['disconnect', 60]);
  });

  test('of an OrderbookRateLimiter wait for the interval in force, and end with its ban', () => {
    const { clock, ask } = both(
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
    expect(ask()).toEqual(['allow', 0]);
    expect(ask(0)).toEqual(['allow', 0]);
    expect(ask()).toEqual(['delay', 10]);
    expect(ask()).toEqual(['delay', 60]);
    clock.now += 60;
    expect(ask()).toEqual(['allow', 0]);
    expect(ask()).toEqual(['delay', 300]);
    expect(ask()).toEqual(['delay', 300]);
    expect(ask()).toEqual(['disconnect', 1000]);
    expect(ask()).toEqual(['disconnect', 1000]);
  });

  test('a RateLimiter bans nobody', () => {
    const limiter = new RateLimiter({ disconnectThreshold: 0, engine });
    judge(limiter, 'a', 1e9);
    expect(isBanned(limiter, 'a')).toBe(false);
    expect(codeOf(() => requireBanning(limiter, 'limiter'))).toBe('ERR_LIMITER_OPTION');
  });
});

test('what is no limiter is refused', () => {
  // The last is one of relay-limiter/redis, which answers by promises.
  const shared = new SharedRateLimiter({ mode: 'local', rateLimit: 1 });
  for (const value of [undefined, null, 1, {}, { check() {} }, new Map(), shared]) {
    expect(codeOf(() => requireLimiter(value, 'limiter'))).toBe('ERR_LIMITER_OPTION');
  }
});

describe('a SharedRateLimiter, which answers by promises, is refused', () => {
  const limiter = new SharedRateLimiter({ mode: 'local' }) as never;
  const refusal = expect.objectContaining({
    code: 'ERR_LIMITER_OPTION',
    message: expect.stringMatching(/ must be a .* got a SharedRateLimiter: call its checkAsync/),
  });
  const webSockets = { handleUpgrade() {} } as unknown as WebSocketServer;

  test.each<[string, () => unknown]>([
    ['the middleware', () => rateLimit({ limiter })],
    ['messages of WebSockets', () => guardWebSocketServer(webSockets, { messages: { limiter } })],
    ['WebSockets', () => guardWebSocketServer(webSockets, { connections: { limiter } })],
    ['lines', () => guardLineServer(new Server(), { messages: { limiter } })],
    ['connections of lines', () => guardLineServer(new Server(), { connections: { limiter } })],
    ['expulsions', () => guardLineServer(new Server(), { expulsions: limiter })],
  ])('for %s', (_, guard) => {
    expect(guard).toThrow(refusal);
  });
});
