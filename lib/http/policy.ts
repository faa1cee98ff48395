// Describes a limiter of keys as an HTTP quota policy: a quota, a window, and the state of a key. The state never
// promises more requests than the limiter would allow.

import { ALLOWED } from '../common/check-results.js';
import type { MaybePromise } from '../common/maybe-promise.js';
import { requireCost, requireKey } from '../common/options.js';
import { type CheckResult, RateLimitAction } from '../common/types.js';
import {
  type AsyncLimiter,
  checkWithTokens,
  type ResultWithTokens,
} from '../limiters/async-limiter.js';
import type { DirectConnectionRateLimiter } from '../limiters/direct-connection-rate-limiter.js';
import type { OrderbookRateLimiter } from '../limiters/orderbook-rate-limiter.js';
import type { RateLimiter } from '../limiters/rate-limiter.js';
import { type AnyLimiter, checkAny, intervalOf } from '../limiters/verdict.js';
import { type QuotaKind, QuotaReader } from '../rules/quotas.js';
import type { RuleLimiter } from '../rules/rule-limiter.js';
import type { QuotaState } from './stated.js';

/** The result of a check; of an AsyncLimiter also the tokens that are left, or null if they are unknown. */
export type PolicyVerdict = CheckResult | ResultWithTokens;

export interface LimiterPolicy {
  /** Tokens of a full bucket. */
  readonly quota: number;
  /** Seconds in which an empty bucket refills; null if it never refills, or refills immediately. */
  readonly windowSeconds: number | null;
  /** @throws what the check of the limiter throws; the limiter is unchanged then. */
  check(key: string, cost: number): MaybePromise<PolicyVerdict>;
  /**
   * The state of a key after `verdict` on a request of that cost; undefined if it is unknown. Exact only if no other check
   * came in between.
   */
  stateOf(key: string, cost: number, verdict: PolicyVerdict): QuotaState | undefined;
  /** Gives a cost back. Does nothing if the limiter cannot. */
  refund(key: string, cost: number): void;
}

export function policyOf(limiter: AnyLimiter | AsyncLimiter): LimiterPolicy {
  if ('checkWithTokens' in limiter) return new AsyncPolicy(limiter);
  if ('checkMessage' in limiter) {
    return new BucketPolicy(limiter, limiter.messageBurst, limiter.messageRatePerSec);
  }
  if ('isBanned' in limiter) return new IntervalPolicy(limiter);
  return new BucketPolicy(limiter, limiter.burstLimit, limiter.rateLimit);
}

class BucketPolicy implements LimiterPolicy {
  readonly quota: number;
  readonly windowSeconds: number | null;
  readonly #limiter: RateLimiter | DirectConnectionRateLimiter;
  readonly #rate: number;

  constructor(limiter: RateLimiter | DirectConnectionRateLimiter, quota: number, rate: number) {
    this.#limiter = limiter;
    this.quota = quota;
    this.windowSeconds = roundWindow(quota / rate);
    this.#rate = rate;
  }

  check(key: string, cost: number): CheckResult {
    return checkAny(this.#limiter, key, cost);
  }

  stateOf(key: string, cost: number, [action, seconds]: PolicyVerdict): QuotaState {
    const tokens = this.#limiter.getTokens(key);
    const isRefused = action !== RateLimitAction.ALLOW;
    // A RateLimiter has no bans. A refusal despite enough tokens means that the table is full of peers that cannot be
    // evicted. In both cases tokens do not help.
    const isBanned = action === RateLimitAction.DISCONNECT && 'isBanned' in this.#limiter;
    if (isBanned || (isRefused && tokens >= cost)) return emptyFor(seconds);
    return bucketState(tokens, this.quota, this.#rate, cost);
  }

  refund(): void {}
}

/** The policy of an OrderbookRateLimiter: one request per interval. */
class IntervalPolicy implements LimiterPolicy {
  readonly quota = 1;
  readonly windowSeconds: number | null;
  readonly #limiter: OrderbookRateLimiter;

  constructor(limiter: OrderbookRateLimiter) {
    this.#limiter = limiter;
    this.windowSeconds = roundWindow(limiter.interval);
  }

  check(key: string, cost: number): CheckResult {
    return checkAny(this.#limiter, key, cost);
  }

  stateOf(key: string, cost: number, [action, seconds]: PolicyVerdict): QuotaState {
    if (action !== RateLimitAction.ALLOW) return emptyFor(seconds);
    const state = emptyFor(intervalOf(this.#limiter, key));
    return cost === 0 ? { ...state, retrySeconds: 0 } : state;
  }

  refund(): void {}
}

/** The policy of a limiter whose checks return promises. It states only tokens that are known. */
class AsyncPolicy implements LimiterPolicy {
  readonly quota: number;
  readonly windowSeconds: number | null;
  readonly #limiter: AsyncLimiter;

  constructor(limiter: AsyncLimiter) {
    this.#limiter = limiter;
    this.quota = limiter.burstLimit;
    this.windowSeconds = roundWindow(limiter.burstLimit / limiter.rateLimit);
  }

  check(key: string, cost: number): MaybePromise<PolicyVerdict> {
    return checkWithTokens(this.#limiter, key, cost);
  }

  stateOf(_: string, cost: number, verdict: PolicyVerdict): QuotaState | undefined {
    const [action, seconds, tokens = null] = verdict as readonly [string, number, number | null];
    if (action === RateLimitAction.ALLOW) {
      return tokens === null ? undefined : this.#state(tokens, cost);
    }
    // A refusal may hold for longer than until the bucket contains the cost.
    if (tokens === null || tokens >= cost) return emptyFor(seconds);
    const state = this.#state(tokens, cost);
    return { ...state, retrySeconds: Math.max(state.retrySeconds, seconds) };
  }

  refund(): void {}

  #state(tokens: number, cost: number): QuotaState {
    return bucketState(tokens, this.quota, this.#limiter.rateLimit, cost);
  }
}

/** The policy of the only rule of a RuleLimiter: it can give back what it has taken, and can ban. */
export class RulePolicy implements LimiterPolicy {
  readonly quota: number;
  readonly windowSeconds: number;
  readonly #limiter: RuleLimiter;
  readonly #quotas: QuotaReader<QuotaKind>;

  constructor(limiter: RuleLimiter, quota: number, windowSeconds: number) {
    this.#limiter = limiter;
    this.#quotas = new QuotaReader(limiter, (rules) => ({ rules }));
    this.quota = quota;
    this.windowSeconds = windowSeconds;
  }

  check(key: string, cost: number): CheckResult {
    // A RuleLimiter would also accept keys and costs as objects.
    requireKey(key);
    requireCost(cost);
    const { outcome, delaySeconds } = this.#limiter.check(key, cost);
    if (outcome === 'allow') return ALLOWED;
    const action = outcome === 'banned' ? RateLimitAction.DISCONNECT : RateLimitAction.DELAY;
    return [action, delaySeconds];
  }

  stateOf(key: string, cost: number, [action, seconds]: PolicyVerdict): QuotaState {
    const tokens = this.#quotas.look(key, cost)?.quotas.left[0] ?? this.quota;
    const isRefused = action !== RateLimitAction.ALLOW;
    if (action === RateLimitAction.DISCONNECT || (isRefused && tokens >= cost)) {
      return emptyFor(seconds);
    }
    const state = bucketState(tokens, this.quota, this.quota / this.windowSeconds, cost);
    // A RuleLimiter rounds its delays up.
    return isRefused ? { ...state, retrySeconds: seconds } : state;
  }

  refund(key: string, cost: number): void {
    this.#limiter.refund(key, cost);
  }
}

/** The state of a bucket with these tokens, which may be below 0. `rate`: tokens per second. */
export function bucketState(tokens: number, quota: number, rate: number, cost: number): QuotaState {
  const remaining = Math.max(0, Math.floor(tokens));
  return {
    remaining,
    nextTokenSeconds: (remaining + 1 - tokens) / rate,
    // With a rate of 0 the quotient of a full bucket would be NaN.
    fullSeconds: tokens >= quota ? 0 : (quota - tokens) / rate,
    retrySeconds: cost <= tokens ? 0 : cost > quota ? Infinity : (cost - tokens) / rate,
  };
}

/** The state of a key that gets nothing for some seconds. */
export function emptyFor(seconds: number): QuotaState {
  return {
    remaining: 0,
    nextTokenSeconds: seconds,
    fullSeconds: seconds,
    retrySeconds: seconds,
  };
}

/** Removes the rounding error of the division: 60.00000000000001 would be sent as 61. */
export function roundWindow(seconds: number): number | null {
  const rounded = Number(seconds.toPrecision(12));
  return rounded > 0 && rounded < Infinity ? rounded : null;
}
