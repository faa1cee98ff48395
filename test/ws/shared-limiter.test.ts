// A guard of WebSockets with a SharedRateLimiter: its verdicts in each mode, and its failure policy.

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { SharedRateLimiter, SharedRateLimiterOptions } from '../../lib/redis/index.js';
import { type Outage, sharedLimiter } from '../http/shared-limiter.js';
import { manualClock } from '../support/limiters.js';
import { guardedVirtually } from './virtual.js';

const clock = manualClock();
let made: SharedRateLimiter[] = [];

function make(options: SharedRateLimiterOptions, outage?: Outage): SharedRateLimiter {
  const limiter = sharedLimiter(clock, { rateLimit: 0.1, burstLimit: 2, ...options }, outage);
  made.push(limiter);
  return limiter;
}

beforeEach(() => {
  vi.spyOn(performance, 'now').mockImplementation(() => clock.now * 1000);
});
afterEach(async () => {
  await Promise.all(made.map((limiter) => limiter.close()));
  made = [];
  vi.restoreAllMocks();
});

describe('A guard with a SharedRateLimiter', () => {
  test.each(['strict', 'leased', 'local'] as const)(
    'admits its burst and drops the rest, in mode %s',
    async (mode) => {
      const { connect, verdicts } = guardedVirtually({ messages: { limiter: make({ mode }) } });
      const socket = connect();
      socket.receive('a', 'b', 'c');
      await expect.poll(() => verdicts.length).toBe(4);
      expect([socket.received, socket.isPaused]).toEqual([['a', 'b'], false]);
      expect(verdicts.at(-1)).toMatchObject({ did: 'dropped', reason: 'rate', delaySeconds: 10 });
      clock.now += 10;
      socket.receive('d');
      await expect.poll(() => socket.received).toEqual(['a', 'b', 'd']);
    },
  );

  test.each(['leased', 'local'] as const)(
    'neither waits nor pauses for what needs no reply of the store, in mode %s',
    async (mode) => {
      const limiter = make({ mode, rateLimit: 10, burstLimit: 100 });
      const { connect } = guardedVirtually({ messages: { limiter, key: () => 'all' } });
      const socket = connect();
      // The second check takes the lease.
      for (const text of ['a', 'b']) {
        socket.receive(text);
        await expect.poll(() => socket.received.at(-1)).toBe(text);
      }
      const checkWithTokens = vi.spyOn(limiter, 'checkWithTokens');
      socket.pause = () => expect.unreachable();
      socket.receive('c', 'd');
      expect(socket.received).toEqual(['a', 'b', 'c', 'd']);
      expect(checkWithTokens).not.toHaveBeenCalled();
    },
  );

  test.each([
    ['leased', 'open', 'allow'],
    ['leased', 'closed', 'delay'],
    ['local', 'open', 'allow'],
    ['strict', 'open', undefined],
  ] as const)(
    'that is in mode %s with the failure policy %s knows at once while the store is away: %s',
    async (mode, onStoreFailure, expected) => {
      const limiter = make({ mode, onStoreFailure }, { isAway: true });
      for (let n = 0; mode !== 'local' && limiter.getStats().store.state !== 'down'; n += 1) {
        await limiter.checkAsync(`${n}`);
      }
      expect(limiter.checkLocally('a')?.[0]).toBe(expected);
      expect(limiter.checkLocally('a', 3)?.[0]).toBe(mode === 'local' ? 'delay' : expected);
    },
  );

  test.each([
    ['open', ['passed', 'passed']],
    ['closed', ['refused']],
  ] as const)(
    'acts on the failure policy %s while the store is away',
    async (onStoreFailure, expected) => {
      const limiter = make({ mode: 'strict', onStoreFailure }, { isAway: true });
      const { connect, verdicts, upgraded } = guardedVirtually({
        connections: { limiter },
        messages: { limiter },
      });
      connect();
      await expect.poll(() => verdicts.length).toBe(1);
      upgraded[0]?.receive('a');
      await expect.poll(() => verdicts.length).toBe(expected.length);
      expect(verdicts.map(({ did }) => did)).toEqual(expected);
    },
  );
});
