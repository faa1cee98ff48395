// The limiters whose checks return promises, as guards and HTTP limits use them.

import { ALLOWED } from '../common/check-results.js';
import { hasMethods } from '../common/kinds.js';
import { type MaybePromise, mapMaybePromise } from '../common/maybe-promise.js';
import { requireKey } from '../common/options.js';
import { type CheckResult, type Peer, RateLimitAction } from '../common/types.js';

/** The result of a check, and the tokens that are left; null if they are unknown. */
export type ResultWithTokens = Awaited<ReturnType<AsyncLimiter['checkWithTokens']>>;

/** A limiter whose checks return promises: a SharedRateLimiter. */
export interface AsyncLimiter {
  /** Tokens per second. */
  readonly rateLimit: number;
  /** The capacity of a bucket, in tokens. */
  readonly burstLimit: number;
  /** As `SharedRateLimiter.checkWithTokens`. */
  checkWithTokens(
    key: string,
    cost?: number,
  ): Promise<readonly [action: RateLimitAction, delaySeconds: number, tokens: number | null]>;
  /**
   * As `SharedRateLimiter.checkLocally`: the result if it is known at once, so that nothing has to wait for a promise;
   * undefined if it is not, and then the check has had no effect.
   */
  checkLocally?(
    key: string,
    cost?: number,
  ): readonly [action: RateLimitAction, delaySeconds: number, tokens: number | null] | undefined;
  /** As `SharedRateLimiter.removePeer`: the peer has left this process. */
  removePeer(key: string): void;
}

/** By its methods, as `requireLimiter` does. */
export function isAsyncLimiter(value: unknown): value is AsyncLimiter {
  return hasMethods(value, 'checkWithTokens', 'removePeer');
}

/**
 * Checks a key, without a promise if the limiter knows the result. @throws (or rejects with) the errors of its check
 * @internal
 */
export function checkWithTokens(
  limiter: AsyncLimiter,
  key: string,
  cost?: number,
): MaybePromise<ResultWithTokens> {
  return limiter.checkLocally?.(key, cost) ?? limiter.checkWithTokens(key, cost);
}

/** Checks one message or connection. @throws (or rejects with) the errors of the limiter's check @internal */
export function checkAsync(
  limiter: AsyncLimiter,
  key: string,
  cost?: number,
): MaybePromise<CheckResult> {
  return mapMaybePromise(checkWithTokens(limiter, key, cost), withoutTokens);
}

/** The counterpart of `openPeer`. @throws `ERR_LIMITER_KEY` @internal */
export function openAsync(limiter: AsyncLimiter, key: string): Peer<MaybePromise<CheckResult>> {
  requireKey(key);
  return { key, check: (cost) => checkAsync(limiter, key, cost) };
}

function withoutTokens([action, delaySeconds]: ResultWithTokens): CheckResult {
  return action === RateLimitAction.ALLOW ? ALLOWED : [action, delaySeconds];
}
