// Selects the policy of a request: one policy for all requests, or one for each result of a `limit` function.
// Creates the limiters that the user has not passed in. Several RequestLimiters may share a PolicySet, and then they
// share its buckets.

import { invalidNumber, limiterError } from '../common/errors.js';
import { mapMaybePromise } from '../common/maybe-promise.js';
import type { EngineName } from '../common/types.js';
import type { AsyncLimiter } from '../limiters/async-limiter.js';
import { RateLimiter } from '../limiters/rate-limiter.js';
import type { AnyLimiter } from '../limiters/verdict.js';
import type { AnyRules } from '../rules/any-rules.js';
import { RuleLimiter } from '../rules/rule-limiter.js';
import type { BanPolicy, Keys } from '../rules/types.js';
import { type LimiterPolicy, policyOf, RulePolicy } from './policy.js';
import type { Asked } from './types.js';

/** The options that define the limiters. */
export interface LimitSettings<Request, Response> {
  /** The user's limiter, unless it is a RuleLimiter. If a limiter is given, the other settings are ignored. */
  readonly limiter: AnyLimiter | AsyncLimiter | undefined;
  /** The user's RuleLimiter. */
  readonly rules: AnyRules | undefined;
  readonly limit: number | Asked<Request, Response, number>;
  /** Seconds in which an empty bucket refills. */
  readonly windowSeconds: number;
  readonly limiterOptions: {
    readonly engine?: 'auto' | EngineName | undefined;
    readonly clock?: (() => number) | undefined;
    readonly maxPeers?: number | undefined;
    readonly disconnectThreshold?: number | null | undefined;
    readonly shared?: string | undefined;
  };
  readonly ban: BanPolicy | undefined;
  /** Whether the limiters must be able to give back what a request has taken. */
  readonly refunds: boolean;
}

/** More than pricing plans need. Each limit has a limiter with a table of its own. */
const MAX_LIMITS = 100;

/** A limiter that `limit` has created. */
interface OwnLimiter {
  removePeer(key: string): void;
  close(): void;
}

export class PolicySet<Request, Response> {
  /** The user's RuleLimiter. It selects policies itself. */
  readonly rules: AnyRules | undefined;
  /** Not with a RuleLimiter. */
  readonly policyFor: Asked<Request, Response, LimiterPolicy>;
  /** The policy of all requests; undefined if `limit` is a function, and with a RuleLimiter. */
  readonly only: LimiterPolicy | undefined;
  readonly #settings: LimitSettings<Request, Response>;
  readonly #byLimit = new Map<number, LimiterPolicy>();
  readonly #limiters: OwnLimiter[] = [];

  /** @throws `ERR_LIMITER_OPTION` unless the limit is a whole number of at least 1, or a function. */
  constructor(settings: LimitSettings<Request, Response>) {
    const { limiter, rules, limit } = settings;
    this.#settings = settings;
    this.rules = rules;
    if (rules === undefined && limiter === undefined && typeof limit === 'function') {
      this.policyFor = (request, response) =>
        mapMaybePromise(limit(request, response), (result) => this.#policyOfLimit(result));
      return;
    }
    if (rules === undefined) {
      this.only = limiter === undefined ? this.#policyOfLimit(limit as number) : policyOf(limiter);
    }
    this.policyFor = () => this.only as LimiterPolicy;
  }

  /** Removes a key from all limiters. @throws `ERR_LIMITER_KEY` */
  resetKey(key: string | Keys): void {
    const { limiter } = this.#settings;
    this.rules?.removePeer(key);
    for (const each of limiter === undefined ? this.#limiters : [limiter]) {
      each.removePeer(key as string);
    }
  }

  /** Stops the background cleanup of the limiters that this object has created. */
  close(): void {
    for (const limiter of this.#limiters) limiter.close();
  }

  #policyOfLimit(limit: number): LimiterPolicy {
    const known = this.#byLimit.get(limit);
    if (known !== undefined) return known;
    const policy = this.#createPolicy(limit);
    this.#byLimit.set(limit, policy);
    return policy;
  }

  #createPolicy(limit: number): LimiterPolicy {
    if (!(Number.isSafeInteger(limit) && limit >= 1)) {
      const accepted = 'a whole number of at least 1';
      throw invalidNumber('ERR_LIMITER_OPTION', 'limit', limit, accepted);
    }
    if (this.#byLimit.size >= MAX_LIMITS) {
      const message = `limit() must return at most ${MAX_LIMITS} different numbers, got one more: ${limit}`;
      throw limiterError(RangeError, 'ERR_LIMITER_OPTION', message);
    }
    const { windowSeconds, limiterOptions, ban, refunds } = this.#settings;
    const { engine, clock, maxPeers, disconnectThreshold, shared } = limiterOptions;
    // A bucket that is idle for a whole window is full, like the bucket of a new peer.
    const common = { engine, clock, maxPeers, shared, cleanup: { maxAgeSeconds: windowSeconds } };
    if (ban === undefined && !refunds) {
      const rate = { rateLimit: limit / windowSeconds, burstLimit: limit };
      const limiter = new RateLimiter({ ...common, ...rate, disconnectThreshold });
      this.#limiters.push(limiter);
      return policyOf(limiter);
    }
    const limiter = new RuleLimiter({
      ...common,
      scopes: { key: {} },
      rules: { limit: { scope: 'key', quota: limit, windowSeconds } },
      ...(ban === undefined ? {} : { bans: { key: ban } }),
    });
    this.#limiters.push(limiter);
    return new RulePolicy(limiter, limit, windowSeconds);
  }
}
