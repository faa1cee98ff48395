// Selects the policy of a request: one policy for all requests, or one for each result of a `limit` function.
// Creates the limiters that the user has not passed in. Several RequestLimiters may share a PolicySet, and then they
// share its buckets.

import { invalidNumber, limiterError } from '../common/errors.js';
import { RateLimiter, type RateLimiterOptions } from '../limiters/rate-limiter.js';
import type { AnyLimiter } from '../limiters/verdict.js';
import { mapMaybePromise } from './maybe-promise.js';
import { type LimiterPolicy, policyOf } from './policy.js';
import type { Asked } from './types.js';

/** The options that define the limiters. */
export interface LimitSettings<Request, Response> {
  /** The user's limiter. If it is given, the other settings are ignored. */
  readonly limiter: AnyLimiter | undefined;
  readonly limit: number | Asked<Request, Response, number>;
  /** Seconds in which an empty bucket refills. */
  readonly windowSeconds: number;
  readonly limiterOptions: RateLimiterOptions;
}

/** More than pricing plans need. Each limit has a limiter with a table of its own. */
const MAX_LIMITS = 100;

export class PolicySet<Request, Response> {
  readonly policyFor: Asked<Request, Response, LimiterPolicy>;
  /** The policy of all requests; undefined if `limit` is a function. */
  readonly only: LimiterPolicy | undefined;
  readonly #settings: LimitSettings<Request, Response>;
  readonly #byLimit = new Map<number, LimiterPolicy>();

  /** @throws `ERR_LIMITER_OPTION` unless the limit is a whole number of at least 1, or a function. */
  constructor(settings: LimitSettings<Request, Response>) {
    const { limiter, limit } = settings;
    this.#settings = settings;
    if (limiter === undefined && typeof limit === 'function') {
      this.policyFor = (request, response) =>
        mapMaybePromise(limit(request, response), (result) => this.#policyOfLimit(result));
    } else {
      const only = limiter === undefined ? this.#policyOfLimit(limit as number) : policyOf(limiter);
      this.only = only;
      this.policyFor = () => only;
    }
  }

  /** Removes a key from all limiters. @throws `ERR_LIMITER_KEY` */
  resetKey(key: string): void {
    this.#settings.limiter?.removePeer(key);
    for (const { limiter } of this.#byLimit.values()) limiter.removePeer(key);
  }

  /** Stops the background cleanup of the limiters that this object has created. */
  close(): void {
    for (const { limiter } of this.#byLimit.values()) limiter.close();
  }

  #policyOfLimit(limit: number): LimiterPolicy {
    const known = this.#byLimit.get(limit);
    if (known !== undefined) return known;
    const policy = policyOf(this.#createLimiter(limit));
    this.#byLimit.set(limit, policy);
    return policy;
  }

  #createLimiter(limit: number): RateLimiter {
    if (!(Number.isSafeInteger(limit) && limit >= 1)) {
      const accepted = 'a whole number of at least 1';
      throw invalidNumber('ERR_LIMITER_OPTION', 'limit', limit, accepted);
    }
    if (this.#byLimit.size >= MAX_LIMITS) {
      const message = `limit() must return at most ${MAX_LIMITS} different numbers, got one more: ${limit}`;
      throw limiterError(RangeError, 'ERR_LIMITER_OPTION', message);
    }
    const { windowSeconds, limiterOptions } = this.#settings;
    return new RateLimiter({
      ...limiterOptions,
      rateLimit: limit / windowSeconds,
      burstLimit: limit,
      // A bucket that is idle for a whole window is full, like the bucket of a new peer.
      cleanup: { maxAgeSeconds: windowSeconds },
    });
  }
}
