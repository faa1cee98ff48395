// TokenBucket: one bucket on its own, for those who keep their peers themselves.

import { type Clock, monotonicSeconds, readClock } from '../common/clock.js';
import { callback, positive, readOptions, requireCost } from '../common/options.js';
import { delaySeconds, refill } from '../tables/arithmetic.js';

export interface TokenBucketOptions {
  /** Monotonic seconds, read once a call. Default: the process's monotonic clock. */
  clock?: (() => number) | undefined;
}

/** A token bucket (reference: JoinMarket-NG, `jmcore.rate_limiter.TokenBucket`). It starts full. */
export class TokenBucket {
  /** Most tokens it holds. */
  readonly capacity: number;
  /** Tokens a second that come back. */
  readonly refillRate: number;
  readonly #clock: Clock;
  #tokens: number;
  #lastRefill: number;

  /**
   * `capacity` tokens at most, `refillRate` tokens a second; both finite and greater than 0.
   * @throws `ERR_LIMITER_OPTION` for anything else.
   */
  constructor(capacity: number, refillRate: number, options?: TokenBucketOptions) {
    const given = readOptions('TokenBucket', options, ['clock']);
    this.capacity = positive({ capacity }, 'capacity');
    this.refillRate = positive({ refillRate }, 'refillRate');
    this.#clock = callback<Clock>(given, 'clock') ?? monotonicSeconds;
    this.#tokens = capacity;
    this.#lastRefill = readClock(this.#clock);
  }

  /** Tokens as of the last `consume` or `reset`. */
  get tokens(): number {
    return this.#tokens;
  }

  /** Clock value of the last `consume` or `reset`, in seconds. */
  get lastRefill(): number {
    return this.#lastRefill;
  }

  /**
   * Refills, then takes `tokens` (default 1; any finite number of at least 0) if they are there.
   * A refusal takes nothing. More than the capacity is never there.
   * @throws `ERR_LIMITER_COST`, `ERR_LIMITER_CLOCK` for bad input, which changes nothing.
   */
  consume(tokens = 1): boolean {
    requireCost(tokens);
    const now = readClock(this.#clock);
    this.#tokens = refill(this.#tokens, this.#lastRefill, now, this.refillRate, this.capacity);
    this.#lastRefill = now;
    if (!(this.#tokens >= tokens)) return false;
    this.#tokens -= tokens;
    return true;
  }

  /**
   * Seconds until one token is there, as of the last `consume` or `reset`: reads no clock. Infinity
   * where the capacity is below one.
   */
  getDelaySeconds(): number {
    return delaySeconds(this.#tokens, 1, this.refillRate, this.capacity);
  }

  /** Fills it up. @throws `ERR_LIMITER_CLOCK`, changing nothing. */
  reset(): void {
    this.#lastRefill = readClock(this.#clock);
    this.#tokens = this.capacity;
  }
}
