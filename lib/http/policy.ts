// A limiter as HTTP tells of it: a quota in a window, and what a key has left of it. Guarantees that no
// more is told than would be admitted. Knows no requests and no fields.

import { type CheckResult, RateLimitAction } from '../common/types.js';
import type { DirectConnectionRateLimiter } from '../limiters/direct-connection-rate-limiter.js';
import type { OrderbookRateLimiter } from '../limiters/orderbook-rate-limiter.js';
import type { RateLimiter } from '../limiters/rate-limiter.js';
import { type AnyLimiter, checkAny, intervalOf } from '../limiters/verdict.js';

/** What a key has, right after a check of it. Seconds may be fractions, or Infinity. */
export interface Left {
  /** Whole tokens. */
  readonly remaining: number;
  /** Seconds until there is one more. */
  readonly moreSeconds: number;
  /** Seconds until all of them are there. */
  readonly fullSeconds: number;
  /** Seconds until the same request would be allowed, once more where it was; 0 where it would be at once. */
  readonly retrySeconds: number;
}

export interface Policy {
  readonly limiter: AnyLimiter;
  /** Tokens of a full bucket. */
  readonly quota: number;
  /** Seconds in which an empty one gets full; null where it never does, or at once. */
  readonly windowSeconds: number | null;
  /** What is left after `verdict` on a request of that cost, with no other check in between. */
  left(key: string, cost: number, verdict: CheckResult): Left;
}

/** @throws what the limiter's own check throws, which changes nothing. */
export function check({ limiter }: Policy, key: string, cost: number): CheckResult {
  return checkAny(limiter, key, cost);
}

export function policyOf(limiter: AnyLimiter): Policy {
  if ('checkMessage' in limiter) {
    return new BucketPolicy(limiter, limiter.messageBurst, limiter.messageRatePerSec);
  }
  if ('isBanned' in limiter) return new IntervalPolicy(limiter);
  return new BucketPolicy(limiter, limiter.burstLimit, limiter.rateLimit);
}

class BucketPolicy implements Policy {
  readonly limiter: RateLimiter | DirectConnectionRateLimiter;
  readonly quota: number;
  readonly windowSeconds: number | null;
  readonly #rate: number;

  constructor(limiter: RateLimiter | DirectConnectionRateLimiter, quota: number, rate: number) {
    this.limiter = limiter;
    this.quota = quota;
    this.windowSeconds = windowOf(quota / rate);
    this.#rate = rate;
  }

  left(key: string, cost: number, [action, seconds]: CheckResult): Left {
    const tokens = this.limiter.getTokens(key);
    const isRefused = action !== RateLimitAction.ALLOW;
    // Not for want of tokens: a ban, which has a time where a RateLimiter's DISCONNECT has none, or a table
    // that takes nobody more.
    const isShut = action === RateLimitAction.DISCONNECT && seconds > 0;
    if (isShut || (isRefused && tokens >= cost)) return nothingFor(seconds);
    const remaining = Math.floor(tokens);
    return {
      remaining,
      moreSeconds: (remaining + 1 - tokens) / this.#rate,
      fullSeconds: (this.quota - tokens) / this.#rate,
      retrySeconds: this.#secondsUntil(cost, tokens),
    };
  }

  #secondsUntil(cost: number, tokens: number): number {
    if (cost <= tokens) return 0;
    return cost > this.quota ? Infinity : (cost - tokens) / this.#rate;
  }
}

/** One request an interval. */
class IntervalPolicy implements Policy {
  readonly limiter: OrderbookRateLimiter;
  readonly quota = 1;
  readonly windowSeconds: number | null;

  constructor(limiter: OrderbookRateLimiter) {
    this.limiter = limiter;
    this.windowSeconds = windowOf(limiter.interval);
  }

  left(key: string, cost: number, [action, seconds]: CheckResult): Left {
    if (action !== RateLimitAction.ALLOW) return nothingFor(seconds);
    const left = nothingFor(intervalOf(this.limiter, key));
    return cost === 0 ? { ...left, retrySeconds: 0 } : left;
  }
}

function nothingFor(seconds: number): Left {
  return { remaining: 0, moreSeconds: seconds, fullSeconds: seconds, retrySeconds: seconds };
}

/** A quotient that misses a round number by a rounding error would be rounded up by one. */
function windowOf(seconds: number): number | null {
  const rounded = Number(seconds.toPrecision(12));
  return rounded > 0 && rounded < Infinity ? rounded : null;
}
