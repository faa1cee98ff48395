// Checks requests by one key each: that of the option `key`, or the address of the client.

import { type MaybePromise, mapMaybePromise } from '../common/maybe-promise.js';
import { RateLimitAction } from '../common/types.js';
import { warnOfKey } from '../guard/misuse.js';
import { unlessStalled } from '../limiters/stalled.js';
import type { RequestCheck } from './checks.js';
import type { FieldWriter } from './fields.js';
import type { RequestLimiterOptions } from './options.js';
import type { PolicySet } from './policies.js';
import type { LimiterPolicy, PolicyVerdict } from './policy.js';
import type { LimitedPolicy, QuotaState, StatedPolicies, StatedPolicy } from './stated.js';
import type { RefusalReason } from './types.js';

/** A policy with its name. */
interface KeyPolicy {
  readonly limiter: LimiterPolicy;
  readonly policy: StatedPolicy;
  readonly stated: StatedPolicies | undefined;
}

/**
 * The number of keys from a user's `key` function that are examined for IPv6 addresses without a subnet. If such
 * keys occur, they occur among the first thousand.
 */
const EXAMINED_KEYS = 1000;

export class KeyLimit<Request, Response> {
  readonly #options: RequestLimiterOptions<Request, Response>;
  readonly #policies: PolicySet<Request, Response>;
  readonly #writer: FieldWriter<never>;
  readonly #named = new Map<LimiterPolicy, KeyPolicy>();
  #keysToExamine: number;

  /** @throws `ERR_LIMITER_OPTION` for a policy that the fields cannot express. */
  constructor(
    options: RequestLimiterOptions<Request, Response>,
    policies: PolicySet<Request, Response>,
    writer: FieldWriter<never>,
  ) {
    this.#options = options;
    this.#policies = policies;
    this.#writer = writer;
    this.#keysToExamine = options.isOwnKey ? EXAMINED_KEYS : 0;
    if (policies.only !== undefined) this.#name(policies.only);
  }

  /** @throws what the functions of the options throw, and the errors of the limiter's check. */
  check(request: Request, response: Response): MaybePromise<RequestCheck> {
    const { key, cost } = this.#options;
    return mapMaybePromise(key(request, response), (key) => {
      this.#examineKey(key);
      return mapMaybePromise(cost(request, response), (cost) =>
        mapMaybePromise(this.#policies.policyFor(request, response), (policy) =>
          this.#charge(policy, key, cost as number),
        ),
      );
    });
  }

  #examineKey(key: string): void {
    if (this.#keysToExamine === 0) return;
    this.#keysToExamine -= 1;
    warnOfKey(key, this.#options.warn);
  }

  #charge(policy: LimiterPolicy, key: string, cost: number): MaybePromise<RequestCheck> {
    const named = this.#named.get(policy) ?? this.#name(policy);
    const verdict = policy.check(key, cost);
    // Not isPromise: V8 is faster with this test of an array.
    if (Array.isArray(verdict)) return new KeyCheck(named, key, cost, verdict as PolicyVerdict);
    const later = verdict as PromiseLike<PolicyVerdict>;
    return later.then((resolved) => new KeyCheck(named, key, cost, resolved));
  }

  #name(limiter: LimiterPolicy): KeyPolicy {
    const { quota, windowSeconds } = limiter;
    const { name = defaultName(limiter) } = this.#options;
    const policy = this.#writer.policy({ name, quota, windowSeconds });
    const named = { limiter, policy, stated: this.#writer.policies([policy]) };
    this.#named.set(limiter, named);
    return named;
  }
}

function defaultName({ quota, windowSeconds }: LimiterPolicy): string {
  return windowSeconds === null ? `${quota}` : `${quota}-in-${windowSeconds}s`;
}

/** Its fields are public: with private ones it takes longer to create, and there is one for each request. */
class KeyCheck implements RequestCheck, LimitedPolicy {
  previous: RequestCheck | undefined;
  readonly source: KeyPolicy;
  readonly policy: StatedPolicy;
  readonly stated: StatedPolicies | undefined;
  readonly key: string;
  readonly action: RateLimitAction;
  readonly cost: number;
  readonly verdict: PolicyVerdict;
  /** Undefined before it is asked for, and if it is unknown. */
  known: QuotaState | undefined;

  constructor(source: KeyPolicy, key: string, cost: number, verdict: PolicyVerdict) {
    this.previous = undefined;
    this.source = source;
    this.policy = source.policy;
    this.stated = source.stated;
    this.key = key;
    this.action = verdict[0];
    this.cost = cost;
    this.verdict = verdict;
    this.known = undefined;
  }

  get reason(): RefusalReason | undefined {
    if (this.action === RateLimitAction.ALLOW) return undefined;
    return this.action === RateLimitAction.DELAY ? 'rate' : 'disconnect';
  }

  get policyName(): string {
    return this.policy.name;
  }

  get rule(): null {
    return null;
  }

  get scope(): null {
    return null;
  }

  get warning(): null {
    return null;
  }

  /** Only of the result of `limitFor`. */
  get state(): QuotaState {
    return this.known as QuotaState;
  }

  limitFor(): LimitedPolicy | undefined {
    this.known ??= unlessStalled(
      () => this.source.limiter.stateOf(this.key, this.cost, this.verdict),
      undefined,
    );
    return this.known === undefined ? undefined : this;
  }

  get retrySeconds(): number {
    const [action, delaySeconds] = this.verdict;
    return (
      this.limitFor()?.state.retrySeconds ?? (action === RateLimitAction.ALLOW ? 0 : delaySeconds)
    );
  }

  countsAgain(): boolean {
    return true;
  }

  refund(): void {
    this.source.limiter.refund(this.key, this.cost);
  }
}
