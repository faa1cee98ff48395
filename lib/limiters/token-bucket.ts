// TokenBucket: a single bucket, for programs that manage their peers themselves.

import { type Clock, monotonicSeconds, readClock } from '../common/clock.js';
import { callback, positive, readOptions, requireCost } from '../common/options.js';
import { delaySeconds, refill } from '../tables/arithmetic.js';

/** The options of a `TokenBucket`. */
export interface TokenBucketOptions {
  /** Returns monotonic seconds; read at most once per call. Default: the monotonic clock of the process. */
  clock?: (() => number) | undefined;
}

/**
 * TokenBucket is a single token bucket. It starts full. Use it if the program manages its peers itself, or has only
 * one. Reference: JoinMarket-NG, `jmcore.rate_limiter.TokenBucket`.
 * @example
 * import { TokenBucket } from 'relay-limiter';
 *
 * const bucket = new TokenBucket(20, 5); // 20 tokens at most, 5 tokens per second
 * if (bucket.consume(3)) console.log('process the message');
 * else console.log(`one token in ${bucket.getDelaySeconds()} seconds`);
 */
export class TokenBucket {
  /** The most tokens that the bucket holds. */
  readonly capacity: number;
  /** Tokens per second that refill the bucket. */
  readonly refillRate: number;
  readonly #clock: Clock;
  #tokens: number;
  #lastRefill: number;

  /**
   * Creates a full bucket of `capacity` tokens that gets `refillRate` tokens per second; both are finite numbers greater
   * than 0.
   * @throws `ERR_LIMITER_OPTION` for an invalid argument, `ERR_LIMITER_CLOCK` unless `clock` returns a finite number.
   */
  constructor(capacity: number, refillRate: number, options?: TokenBucketOptions) {
    const given = readOptions('TokenBucket', options, ['clock']);
    this.capacity = positive({ capacity }, 'capacity');
    this.refillRate = positive({ refillRate }, 'refillRate');
    this.#clock = callback<Clock>(given, 'clock') ?? monotonicSeconds;
    this.#tokens = capacity;
    this.#lastRefill = readClock(this.#clock);
  }

  /** The tokens in the bucket as of the last `consume` or `reset`. */
  get tokens(): number {
    return this.#tokens;
  }

  /** The time of the last `consume` or `reset`, in seconds of the clock. */
  get lastRefill(): number {
    return this.#lastRefill;
  }

  /**
   * Refills the bucket, then takes `tokens` (default 1; any finite number of at least 0) if it holds as many. Returns
   * whether it took them. A refusal takes nothing; more than `capacity` tokens are always refused. O(1).
   * @throws `ERR_LIMITER_COST` or `ERR_LIMITER_CLOCK` for invalid input, and then changes nothing.
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
   * Returns the seconds until the bucket holds one token, as of the last `consume` or `reset`: it reads no clock.
   * Infinity if the capacity is below one token.
   */
  getDelaySeconds(): number {
    return delaySeconds(this.#tokens, 1, this.refillRate, this.capacity);
  }

  /** Fills the bucket. @throws `ERR_LIMITER_CLOCK`, and then changes nothing. */
  reset(): void {
    this.#lastRefill = readClock(this.#clock);
    this.#tokens = this.capacity;
  }
}
