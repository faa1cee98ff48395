// The middleware with a SharedRateLimiter: what its fields say in each mode, and while the store does not answer.

import { ServerResponse } from 'node:http';
import { rateLimit, rateLimitOf } from 'relay-limiter/http';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { SharedRateLimiter, SharedRateLimiterOptions } from '../../lib/redis/index.js';
import { manualClock } from '../support/limiters.js';
import { type Outage, sharedLimiter } from './shared-limiter.js';
import { ask, outcomeOf, requestFrom } from './support.js';

const LIMIT = { rateLimit: 0.1, burstLimit: 4 };
const POLICY = '"4-in-40s";q=4;w=40';
const clock = manualClock();
let made: SharedRateLimiter[] = [];

function make(options: SharedRateLimiterOptions = {}, outage?: Outage) {
  const limiter = sharedLimiter(clock, { ...LIMIT, ...options }, outage);
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

test.each(['strict', 'local'] as const)('in mode %s the fields say what is left', async (mode) => {
  const limit = rateLimit({ limiter: make({ mode, disconnectThreshold: 2 }), cost: 3 });
  const fields = { 'ratelimit-policy': POLICY, ratelimit: '"4-in-40s";r=1;t=10' };
  expect(await ask(limit)).toMatchObject({ passed: true, fields });
  expect(await ask(limit)).toMatchObject({
    passed: false,
    fields: { ...fields, 'retry-after': '20' },
  });
  // DISCONNECT comes with the wait too.
  expect(await ask(limit)).toMatchObject({
    passed: false,
    fields: { ...fields, 'retry-after': '20', connection: 'close' },
  });
  clock.now += 20;
  expect((await ask(limit)).passed).toBe(true);
  const never = rateLimit({ limiter: make({ mode }), cost: 5 });
  const { fields: none } = await ask(never);
  expect(none['ratelimit']).toBe('"4-in-40s";r=4;t=10');
  expect(none['retry-after']).toBeUndefined();
});

test.each(['leased', 'local'] as const)(
  'in mode %s a request that needs no reply of the store is passed at once',
  async (mode) => {
    const limit = rateLimit({ limiter: make({ mode, burstLimit: 100, rateLimit: 10 }) });
    // The second request takes the lease.
    await ask(limit);
    await ask(limit);
    let isPassed = false;
    const request = requestFrom();
    limit(request, new ServerResponse(request), () => {
      isPassed = true;
    });
    expect(isPassed).toBe(true);
  },
);

test('in mode leased the fields promise only what is on lease to this process', async () => {
  const limiter = make({ mode: 'leased', burstLimit: 100, rateLimit: 10 });
  const limit = rateLimit({ limiter });
  // The first request takes no lease: its fields are those of the store.
  expect((await ask(limit)).fields['ratelimit']).toContain('r=99');
  for (let n = 0; n < 40; n += 1) {
    const { passed, fields } = await ask(limit);
    expect(passed).toBe(true);
    const remaining = Number(/r=(\d+)/.exec(String(fields['ratelimit']))?.[1]);
    expect(remaining).toBeLessThanOrEqual(limiter.getStats().leasedTokens);
  }
});

test('the verdict of the failure policy is obeyed, and nothing is promised for it', async () => {
  for (const [onStoreFailure, isPassed] of [
    ['open', true],
    ['closed', false],
  ] as const) {
    const outage = { isAway: true };
    const limit = rateLimit({ limiter: make({ onStoreFailure }, outage) });
    const request = requestFrom();
    const { passed, fields, error } = await outcomeOf(limit, request);
    expect([passed, error]).toEqual([isPassed, undefined]);
    if (isPassed) {
      expect(fields).toEqual({ 'ratelimit-policy': POLICY });
      expect(rateLimitOf(request)).toBeUndefined();
    } else {
      expect(fields).toMatchObject({ ratelimit: '"4-in-40s";r=0;t=1', 'retry-after': '1' });
    }
  }
});

test('an invalid key or cost fails the request, as with other limiters', async () => {
  const limiter = make();
  const key = rateLimit({ limiter, key: () => 5 as never });
  expect((await ask(key)).error).toMatchObject({ code: 'ERR_LIMITER_KEY' });
  const cost = rateLimit({ limiter, cost: () => -1 });
  expect((await ask(cost)).error).toMatchObject({ code: 'ERR_LIMITER_COST' });
  expect((await ask(rateLimit({ limiter }))).fields['ratelimit']).toContain('r=3;');
});

test('resetKey gives up the lease of a key', async () => {
  const limiter = make({ mode: 'local' });
  const limit = rateLimit({ limiter, cost: 4 });
  await ask(limit);
  expect((await ask(limit)).passed).toBe(false);
  limit.resetKey('192.0.2.1');
  expect((await ask(limit)).passed).toBe(true);
});
