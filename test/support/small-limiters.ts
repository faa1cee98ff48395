// Limiters of at most four peers, on a clock that the test sets. An eviction compares sixteen random peers, so here it
// compares all of them, and chance decides nothing.

import {
  DirectConnectionRateLimiter,
  type DirectConnectionRateLimiterOptions,
  type EngineName,
  OrderbookRateLimiter,
  type OrderbookRateLimiterOptions,
  RateLimiter,
  type RateLimiterOptions,
} from 'relay-limiter';
import { manualClock } from './limiters.js';

export type Limiter = RateLimiter | OrderbookRateLimiter | DirectConnectionRateLimiter;

/** Makes limiters on one engine and one clock. Options replace those that are set here. */
export function smallLimiters(engine: EngineName) {
  const clock = manualClock();
  return {
    clock,
    rate: (options: RateLimiterOptions = {}) =>
      new RateLimiter({ rateLimit: 1, burstLimit: 10, maxPeers: 4, engine, clock, ...options }),
    /** A peer with two violations is banned by its next request. */
    orderbook: (options: OrderbookRateLimiterOptions = {}) =>
      new OrderbookRateLimiter({
        interval: 10,
        violationBanThreshold: 2,
        violationWarningThreshold: 50,
        banDuration: 100,
        maxPeers: 4,
        engine,
        clock,
        ...options,
      }),
    /** The second violation bans a peer. */
    direct: (options: DirectConnectionRateLimiterOptions = {}) =>
      new DirectConnectionRateLimiter({
        messageRatePerSec: 1,
        messageBurst: 10,
        orderbookInterval: 30,
        orderbookBanThreshold: 2,
        banDuration: 100,
        maxPeers: 4,
        engine,
        clock,
        ...options,
      }),
  };
}

export function times(n: number, act: () => unknown): void {
  for (let i = 0; i < n; i += 1) act();
}
