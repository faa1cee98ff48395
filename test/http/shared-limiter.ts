// SharedRateLimiters in mode strict, each with a simulated store, in the time of a manual clock. They stand in for the
// RateLimiter that the option `limit` creates, so that a suite can run with both.

import { afterAll, beforeAll, vi } from 'vitest';
import { SharedRateLimiter, type SharedRateLimiterOptions } from '../../lib/redis/index.js';
import { leaseLifetimes } from '../../lib/redis/store/limit.js';
import { SimulatedStore } from '../redis/support/simulated-store.js';
import { ENGINES, type ManualClock } from '../support/limiters.js';

/** Which calls of the store fail. */
export interface Outage {
  isAway: boolean;
}

export function sharedLimiter(
  clock: () => number,
  options: SharedRateLimiterOptions,
  outage: Outage = { isAway: false },
): SharedRateLimiter {
  const { rateLimit = 10, burstLimit = 10, disconnectThreshold = null } = options;
  const limit = { rateLimit, burstLimit: Number(burstLimit), disconnectThreshold };
  const store = new SimulatedStore({ ...limit, ...leaseLifetimes(30, 0.1) }, clock);
  const call = (method: 'eval' | 'evalSha') => {
    return async (text: string, given: { keys: string[]; arguments: string[] }) => {
      if (outage.isAway) throw new Error('Socket closed unexpectedly');
      return store[method](text, given.keys, given.arguments);
    };
  };
  const nothing = () => {};
  const client = { on: nothing, off: nothing, connect: nothing };
  return new SharedRateLimiter({
    mode: 'strict',
    client: { ...client, eval: call('eval'), evalSha: call('evalSha') },
    clock,
    ...options,
  });
}

type Options = Readonly<Record<string, unknown>>;
type Convert = (options: Options) => Options;

/** For each engine, and for a SharedRateLimiter: a function that puts the limiter in place of a constant `limit`. */
export const SOURCES: readonly (readonly [
  name: string,
  convert: (clock: ManualClock) => Convert,
])[] = [
  ...ENGINES.map((engine) => {
    const convert: Convert = (options) => ('limiter' in options ? options : { engine, ...options });
    return [`the ${engine} engine`, () => convert] as const;
  }),
  ['a SharedRateLimiter', shareLimits],
];

/** Call it in a `describe`. */
function shareLimits(clock: ManualClock): Convert {
  const limiters: SharedRateLimiter[] = [];
  // The limiter compares the store's clock with that of this process.
  beforeAll(() => {
    vi.spyOn(performance, 'now').mockImplementation(() => clock.now * 1000);
  });
  afterAll(async () => {
    await Promise.all(limiters.map((limiter) => limiter.close()));
    vi.restoreAllMocks();
  });
  return (options) => {
    const { limit, windowSeconds = 60, clock: _, engine: __, ...rest } = options;
    const { maxPeers: ___, disconnectThreshold, ...others } = rest;
    if (typeof limit !== 'number' || !(limit >= 1)) return options;
    const limiter = sharedLimiter(clock, {
      rateLimit: limit / Number(windowSeconds),
      burstLimit: limit,
      disconnectThreshold: disconnectThreshold as number | null | undefined,
    });
    limiters.push(limiter);
    return { limiter, ...others };
  };
}
