// The limiters whose checks return promises, as guards and HTTP limits use them.

import { hasMethods } from '../common/kinds.js';
import { requireKey } from '../common/options.js';
import type { CheckResult, Peer, RateLimitAction } from '../common/types.js';

/** A limiter whose checks return promises: a SharedRateLimiter. */
export interface AsyncLimiter {
  /** Tokens per second. */
  readonly rateLimit: number;
  readonly burstLimit: number;
  /** As `SharedRateLimiter.checkWithTokens`. */
  checkWithTokens(
    key: string,
    cost?: number,
  ): Promise<readonly [action: RateLimitAction, delaySeconds: number, tokens: number | null]>;
  removePeer(key: string): void;
}

/** By its methods, as `requireLimiter` does. */
export function isAsyncLimiter(value: unknown): value is AsyncLimiter {
  return hasMethods(value, 'checkWithTokens', 'removePeer');
}

/** Checks one message or connection. @throws (rejects with) the errors of the limiter's check */
export async function checkAsync(
  limiter: AsyncLimiter,
  key: string,
  cost?: number,
): Promise<CheckResult> {
  // Not checkAsync, which returns no delay with DISCONNECT.
  const [action, delaySeconds] = await limiter.checkWithTokens(key, cost);
  return [action, delaySeconds];
}

/** The counterpart of `openPeer`. @throws `ERR_LIMITER_KEY` */
export function openAsync(limiter: AsyncLimiter, key: string): Peer<Promise<CheckResult>> {
  requireKey(key);
  return { key, check: (cost) => checkAsync(limiter, key, cost) };
}
