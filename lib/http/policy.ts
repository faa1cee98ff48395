// Describes a limiter as an HTTP quota policy: a quota, a window, and the state of a key. The state never promises
// more requests than the limiter would allow.

import { type CheckResult, RateLimitAction } from '../common/types.js';
import type { DirectConnectionRateLimiter } from '../limiters/direct-connection-rate-limiter.js';
import type { OrderbookRateLimiter } from '../limiters/orderbook-rate-limiter.js';
import type { RateLimiter } from '../limiters/rate-limiter.js';
import { type AnyLimiter, checkAny, intervalOf } from '../limiters/verdict.js';

/** The quota of a key directly after a check. Seconds may be fractions, or Infinity. */
export interface QuotaState {
  /** Whole tokens. */
  readonly remaining: number;
  /** Seconds until the next whole token is available. */
  readonly nextTokenSeconds: number;
  /** Seconds until the bucket is full. */
  readonly fullSeconds: number;
  /** Seconds until the limiter would allow the same request again; 0 if it would do so immediately. */
  readonly retrySeconds: number;
}

export interface LimiterPolicy {
  readonly limiter: AnyLimiter;
  /** Tokens of a full bucket. */
  readonly quota: number;
  /** Seconds in which an empty bucket refills; null if it never refills, or refills immediately. */
  readonly windowSeconds: number | null;
  /** The state of a key after `verdict` on a request of that cost. Valid only if no other check came in between. */
  stateOf(key: string, cost: number, verdict: CheckResult): QuotaState;
}

/** @throws what the check of the limiter throws; the limiter is unchanged then. */
export function check({ limiter }: LimiterPolicy, key: string, cost: number): CheckResult {
  return checkAny(limiter, key, cost);
}

export function policyOf(limiter: AnyLimiter): LimiterPolicy {
  if ('checkMessage' in limiter) {
    return new BucketPolicy(limiter, limiter.messageBurst, limiter.messageRatePerSec);
  }
  if ('isBanned' in limiter) return new IntervalPolicy(limiter);
  return new BucketPolicy(limiter, limiter.burstLimit, limiter.rateLimit);
}

class BucketPolicy implements LimiterPolicy {
  readonly limiter: RateLimiter | DirectConnectionRateLimiter;
  readonly quota: number;
  readonly windowSeconds: number | null;
  readonly #rate: number;

  constructor(limiter: RateLimiter | DirectConnectionRateLimiter, quota: number, rate: number) {
    this.limiter = limiter;
    this.quota = quota;
    this.windowSeconds = roundWindow(quota / rate);
    this.#rate = rate;
  }

  stateOf(key: string, cost: number, [action, seconds]: CheckResult): QuotaState {
    const tokens = this.limiter.getTokens(key);
    const isRefused = action !== RateLimitAction.ALLOW;
    // A RateLimiter has no bans. A refusal despite enough tokens means that the table is full of peers that cannot be
    // evicted. In both cases tokens do not help.
    const isBanned = action === RateLimitAction.DISCONNECT && 'isBanned' in this.limiter;
    if (isBanned || (isRefused && tokens >= cost)) return emptyFor(seconds);
    const remaining = Math.floor(tokens);
    return {
      remaining,
      nextTokenSeconds: (remaining + 1 - tokens) / this.#rate,
      fullSeconds: (this.quota - tokens) / this.#rate,
      retrySeconds: this.#secondsUntil(cost, tokens),
    };
  }

  #secondsUntil(cost: number, tokens: number): number {
    if (cost <= tokens) return 0;
    return cost > this.quota ? Infinity : (cost - tokens) / this.#rate;
  }
}

/** The policy of an OrderbookRateLimiter: one request per interval. */
class IntervalPolicy implements LimiterPolicy {
  readonly limiter: OrderbookRateLimiter;
  readonly quota = 1;
  readonly windowSeconds: number | null;

  constructor(limiter: OrderbookRateLimiter) {
    this.limiter = limiter;
    this.windowSeconds = roundWindow(limiter.interval);
  }

  stateOf(key: string, cost: number, [action, seconds]: CheckResult): QuotaState {
    if (action !== RateLimitAction.ALLOW) return emptyFor(seconds);
    const state = emptyFor(intervalOf(this.limiter, key));
    return cost === 0 ? { ...state, retrySeconds: 0 } : state;
  }
}

function emptyFor(seconds: number): QuotaState {
  return {
    remaining: 0,
    nextTokenSeconds: seconds,
    fullSeconds: seconds,
    retrySeconds: seconds,
  };
}

/** Removes the rounding error of the division: 60.00000000000001 would be sent as 61. */
function roundWindow(seconds: number): number | null {
  const rounded = Number(seconds.toPrecision(12));
  return rounded > 0 && rounded < Infinity ? rounded : null;
}
