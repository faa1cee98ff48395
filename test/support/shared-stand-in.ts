// A SharedRateLimiter in place of a RateLimiter, so that the suites of guards run with both: a file *.shared.real.test.ts
// replaces the class RateLimiter, and imports the suite.

import type { RateLimiterOptions } from 'relay-limiter';
import { afterAll, beforeAll, vi } from 'vitest';
import { SharedRateLimiter } from '../../lib/redis/index.js';
import { sharedLimiter } from '../http/shared-limiter.js';
import type { ManualClock } from './limiters.js';

const made: { close(): Promise<void> }[] = [];
const realTime = performance.now.bind(performance);
let clock: (() => number) | undefined;

// The limiter measures its calls of the store by performance.now(), and the store tells the time of its own clock.
beforeAll(() => {
  vi.spyOn(performance, 'now').mockImplementation(() =>
    clock === undefined ? realTime() : clock() * 1000,
  );
});
afterAll(async () => {
  vi.restoreAllMocks();
  await Promise.all(made.map((limiter) => limiter.close()));
});

interface StandIn {
  check(key: string, cost?: number): unknown;
  open(key: string): { check(cost?: number): unknown };
}

/** Its methods `check` and `open` are what its checks call, so that a test can replace them as those of a RateLimiter. */
function standIn(options: RateLimiterOptions = {}): object {
  const { rateLimit = 10, burstLimit, disconnectThreshold } = options;
  const isManual = (options.clock as ManualClock | undefined)?.now !== undefined;
  clock = isManual ? options.clock : undefined;
  const limiter = sharedLimiter(options.clock ?? (() => realTime() / 1000), {
    rateLimit,
    burstLimit: burstLimit ?? Math.max(1, 10 * rateLimit),
    disconnectThreshold,
  });
  made.push(limiter);
  const checkShared = limiter.checkWithTokens.bind(limiter);
  const standing: StandIn = Object.assign(limiter, {
    check: (key: string, cost?: number): unknown => checkShared(key, cost),
    open: (key: string) => ({ key, check: (cost?: number) => standing.check(key, cost) }),
    checkWithTokens: async (key: string, cost?: number) => standing.open(key).check(cost) as never,
  });
  return standing;
}

/** For `vi.mock('relay-limiter', ...)`: in mode `local`, which answers at once, as a lease does that covers a check. */
export async function withLocalStandIn(original: () => Promise<unknown>): Promise<object> {
  const RateLimiter = function RateLimiter(options: RateLimiterOptions = {}) {
    const { rateLimit = 10, burstLimit = Math.max(1, 10 * rateLimit), ...others } = options;
    return new SharedRateLimiter({ ...others, mode: 'local', rateLimit, burstLimit });
  };
  return { ...((await original()) as object), RateLimiter };
}

/** For `vi.mock('relay-limiter', ...)`. */
export async function withStandIn(original: () => Promise<unknown>): Promise<object> {
  const RateLimiter = function RateLimiter(options: RateLimiterOptions) {
    return standIn(options);
  };
  return { ...((await original()) as object), RateLimiter };
}
