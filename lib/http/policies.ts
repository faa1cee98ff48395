// Which policy a request falls under: one for all, or one for each limit that a function answers. Makes the
// limiters that are not given. Gates may share it, and then share its buckets.

import { limiterError, refusedNumber } from '../common/errors.js';
import { RateLimiter, type RateLimiterOptions } from '../limiters/rate-limiter.js';
import type { AnyLimiter } from '../limiters/verdict.js';
import { whenKnown } from './later.js';
import { type Policy, policyOf } from './policy.js';
import type { Asked } from './types.js';

/** What a limit is of. */
export interface Limits<Request, Response> {
  /** The caller's; the rest is not looked at then. */
  readonly limiter: AnyLimiter | undefined;
  readonly limit: number | Asked<Request, Response, number>;
  /** Seconds in which an empty bucket gets full. */
  readonly windowSeconds: number;
  readonly limiterOptions: RateLimiterOptions;
}

/** More than plans and tariffs need; each has tables of its own. */
const MOST_LIMITS = 100;

export class Policies<Request, Response> {
  /** The policy of a request. */
  readonly policyFor: Asked<Request, Response, Policy>;
  /** The policy that all requests fall under, where there is one. */
  readonly only: Policy | undefined;
  readonly #limits: Limits<Request, Response>;
  readonly #byLimit = new Map<number, Policy>();

  /** @throws `ERR_LIMITER_OPTION` unless the limit is a whole number of at least 1, or a function. */
  constructor(limits: Limits<Request, Response>) {
    const { limiter, limit } = limits;
    this.#limits = limits;
    if (limiter === undefined && typeof limit === 'function') {
      this.policyFor = (request, response) =>
        whenKnown(limit(request, response), (answer) => this.#of(answer));
    } else {
      const only = limiter === undefined ? this.#of(limit as number) : policyOf(limiter);
      this.only = only;
      this.policyFor = () => only;
    }
  }

  /** Forgets a key. @throws `ERR_LIMITER_KEY` */
  resetKey(key: string): void {
    this.#limits.limiter?.removePeer(key);
    for (const { limiter } of this.#byLimit.values()) limiter.removePeer(key);
  }

  /** Ends what the limiters made here do in the background. */
  close(): void {
    for (const { limiter } of this.#byLimit.values()) limiter.close();
  }

  /** The policy of so many requests in a window. */
  #of(limit: number): Policy {
    const known = this.#byLimit.get(limit);
    if (known !== undefined) return known;
    const policy = policyOf(this.#limiterOf(limit));
    this.#byLimit.set(limit, policy);
    return policy;
  }

  #limiterOf(limit: number): RateLimiter {
    if (!(Number.isSafeInteger(limit) && limit >= 1)) {
      const accepted = 'a whole number of at least 1';
      throw refusedNumber('ERR_LIMITER_OPTION', 'limit', limit, accepted);
    }
    if (this.#byLimit.size >= MOST_LIMITS) {
      const message = `limit() may answer ${MOST_LIMITS} different numbers, not more`;
      throw limiterError(RangeError, 'ERR_LIMITER_OPTION', message);
    }
    const { windowSeconds, limiterOptions } = this.#limits;
    return new RateLimiter({
      ...limiterOptions,
      rateLimit: limit / windowSeconds,
      burstLimit: limit,
      // A bucket that was left alone for so long is full: it can as well be forgotten.
      cleanup: { maxAgeSeconds: windowSeconds },
    });
  }
}
