// Checks requests by a RuleLimiter: all of its rules in one call. It names the scopes that it knows by itself, and those
// that the option `keys` names.

import { invalidValue } from '../common/errors.js';
import { isRecord } from '../common/kinds.js';
import { type MaybePromise, mapMaybePromise } from '../common/maybe-promise.js';
import { RateLimitAction } from '../common/types.js';
import type { Draft } from '../headers/format.js';
import { allQuotaRules, type QuotaRule, type Quotas, quotasOf } from '../rules/quotas.js';
import type { RuleLimiter } from '../rules/rule-limiter.js';
import { REQUESTS } from '../rules/sections.js';
import type { Cost, Keys, RuleVerdict } from '../rules/types.js';
import type { RequestCheck } from './checks.js';
import type { FieldWriter } from './fields.js';
import type { RequestLimiterOptions } from './options.js';
import { bucketState, emptyFor, roundWindow } from './policy.js';
import { RequestKeys } from './request-keys.js';
import type { LimitedPolicy, QuotaState, StatedPolicies, StatedPolicy } from './stated.js';
import type { RefusalReason } from './types.js';

/** The arguments of a check. */
interface Asked {
  readonly keys: Keys;
  readonly cost: Cost;
  readonly action: string | undefined;
  readonly plan: string | undefined;
}

/** The policies of the rules that limit a kind of check. */
interface RulePolicies {
  readonly stated: StatedPolicies | undefined;
  /** By the index of the rule; a rule that the fields cannot express has none. */
  readonly byRule: readonly (StatedPolicy | undefined)[];
}

export class RuleLimit<Request extends object, Response> {
  readonly limiter: RuleLimiter;
  readonly #options: RequestLimiterOptions<Request, Response>;
  readonly #keys: RequestKeys<Request, Response>;
  readonly #writer: FieldWriter<never>;
  readonly #policies = new WeakMap<readonly QuotaRule[], RulePolicies>();

  /** @throws `ERR_LIMITER_OPTION` for a rule that the fields cannot express. */
  constructor(
    options: RequestLimiterOptions<Request, Response>,
    limiter: RuleLimiter,
    writer: FieldWriter<never>,
  ) {
    this.limiter = limiter;
    this.#options = options;
    this.#keys = new RequestKeys(limiter, options.client);
    this.#writer = writer;
    for (const rule of allQuotaRules(limiter)) writer.policies([writer.policy(policyOfRule(rule))]);
  }

  /** @throws what the functions of the options throw, and the errors of `RuleLimiter.check`. */
  check(request: Request, response: Response): MaybePromise<RequestCheck> {
    const { keys, cost, action, plan } = this.#options;
    return mapMaybePromise(keys?.(request, response), (keys) =>
      mapMaybePromise(plan(request, response), (plan) =>
        mapMaybePromise(action(request, response), (action) =>
          mapMaybePromise(cost(request, response), (cost) => {
            requireKeys(keys);
            // After all promises have settled: a connection may have closed meanwhile.
            return this.#charge({
              keys: this.#keys.of(request, response, keys),
              // What is given back later is what is taken now, even if the user's object changes.
              cost: typeof cost === 'object' ? { ...cost } : cost,
              action,
              plan,
            });
          }),
        ),
      ),
    );
  }

  /** The policies of the rules that limit a check. */
  policiesOf(rules: readonly QuotaRule[]): RulePolicies {
    const known = this.#policies.get(rules);
    if (known !== undefined) return known;
    const byRule = rules.map((rule) => this.#tryPolicy(rule));
    const expressible = byRule.filter((policy) => policy !== undefined);
    const policies = { stated: this.#writer.policies(expressible), byRule };
    this.#policies.set(rules, policies);
    return policies;
  }

  #charge(asked: Asked): RequestCheck {
    const { keys, cost, action, plan } = asked;
    const { listedCounts } = this.limiter.context;
    const before = listedCounts.allow;
    const verdict = this.limiter.check(keys, cost, action, plan);
    const isListed = verdict.outcome === 'allow' && listedCounts.allow !== before;
    return new RuleCheck(this as never, asked, verdict, isListed);
  }

  /** Undefined for a rule that an `update` has given a name or numbers that the fields cannot express. */
  #tryPolicy(rule: QuotaRule): StatedPolicy | undefined {
    try {
      const policy = this.#writer.policy(policyOfRule(rule));
      this.#writer.policies([policy]);
      return policy;
    } catch {
      return undefined;
    }
  }
}

function policyOfRule({ name, unit, burst, rate }: QuotaRule) {
  return { name, unit, quota: burst, windowSeconds: roundWindow(burst / rate) };
}

function requireKeys(keys: unknown): asserts keys is Keys | undefined {
  if (keys === undefined || isRecord(keys)) return;
  throw invalidValue('ERR_LIMITER_KEY', 'keys()', keys, 'an object by names of scopes');
}

const ACTIONS = {
  allow: RateLimitAction.ALLOW,
  delay: RateLimitAction.DELAY,
  banned: RateLimitAction.DISCONNECT,
  denied: RateLimitAction.DISCONNECT,
} as const;

const REASONS = { allow: undefined, delay: 'rate', banned: 'ban', denied: 'denied' } as const;

/** Its fields are public, as those of KeyCheck. */
class RuleCheck implements RequestCheck {
  previous: RequestCheck | undefined;
  readonly source: RuleLimit<never, never>;
  readonly asked: Asked;
  readonly verdict: RuleVerdict;
  /** Whether an allow list has allowed it. */
  readonly isListed: boolean;
  /** What the rules say, and their policies; undefined before they are asked for. */
  quotas: Quotas | undefined;
  policies: RulePolicies | undefined;

  constructor(
    source: RuleLimit<never, never>,
    asked: Asked,
    verdict: RuleVerdict,
    isListed: boolean,
  ) {
    this.previous = undefined;
    this.source = source;
    this.asked = asked;
    this.verdict = verdict;
    this.isListed = isListed;
    this.quotas = undefined;
    this.policies = undefined;
  }

  get action(): RateLimitAction {
    return ACTIONS[this.verdict.outcome];
  }

  get reason(): RefusalReason | undefined {
    return REASONS[this.verdict.outcome];
  }

  /** The key of the scope that refuses; that of an address if it has no key of its own. */
  get key(): string {
    const { keys } = this.asked;
    const { scope } = this.verdict;
    const key = scope === null ? undefined : keys[scope];
    return key ?? keys['address'] ?? Object.values(keys).find((one) => one !== undefined) ?? '';
  }

  get policyName(): string {
    return this.rule ?? this.scope ?? this.limitFor(11)?.policy.name ?? '';
  }

  get rule(): string | null {
    return this.verdict.rule;
  }

  get scope(): string | null {
    return this.verdict.scope;
  }

  get warning(): string | null {
    return this.verdict.warning;
  }

  get stated(): StatedPolicies | undefined {
    const quotas = this.#look();
    return quotas && this.policies?.stated;
  }

  limitFor(draft: Draft): LimitedPolicy | undefined {
    const quotas = this.#look();
    if (quotas === undefined) return undefined;
    // Older drafts can state limits on requests only.
    const isAnyUnit = draft === 11;
    const refusing = this.rule === null ? -1 : indexOf(this.rule, quotas);
    const isStated = refusing >= 0 && (isAnyUnit || quotas.rules[refusing]?.unit === REQUESTS);
    const tightest = isAnyUnit ? quotas.tightest : quotas.tightestOfRequests;
    const index = isStated ? refusing : tightest;
    const policy = index < 0 ? undefined : this.policies?.byRule[index];
    return policy && { policy, state: this.#stateOf(index, quotas) };
  }

  get retrySeconds(): number {
    const { outcome, delaySeconds } = this.verdict;
    if (outcome !== 'allow') return delaySeconds;
    return this.#look()?.verdict.delaySeconds ?? 0;
  }

  refund(): void {
    if (this.isListed) return;
    const { keys, cost, action, plan } = this.asked;
    try {
      this.source.limiter.refund(keys, cost, action, plan);
    } catch {
      // An update has removed the plan or a unit of the cost since the check.
    }
  }

  #stateOf(index: number, { rules, left }: Quotas): QuotaState {
    const { name, burst, rate } = rules[index] as QuotaRule;
    const { outcome, delaySeconds } = this.verdict;
    const isEmpty = outcome === 'banned' || (outcome === 'delay' && name !== this.rule);
    return isEmpty ? emptyFor(delaySeconds) : bucketState(left[index] as number, burst, rate, 0);
  }

  /** What the rules say; undefined if a list has decided. Asked once, when it is first needed. */
  #look(): Quotas | undefined {
    if (this.quotas !== undefined) return this.quotas;
    if (this.isListed || this.verdict.outcome === 'denied') return undefined;
    const { keys, cost, action, plan } = this.asked;
    try {
      this.quotas = quotasOf(this.source.limiter, keys, cost, action, plan);
    } catch {
      // As in refund.
    }
    if (this.quotas !== undefined) this.policies = this.source.policiesOf(this.quotas.rules);
    return this.quotas;
  }
}

function indexOf(rule: string, { rules }: Quotas): number {
  return rules.findIndex(({ name }) => name === rule);
}
