// Checks requests by a RuleLimiter: all of its rules in one call. It names the scopes that it knows by itself, and those
// that the option `keys` names.

import { invalidValue } from '../common/errors.js';
import { isRecord } from '../common/kinds.js';
import { isPromise, type MaybePromise, mapMaybePromise } from '../common/maybe-promise.js';
import type { RateLimitAction } from '../common/types.js';
import type { Draft } from '../headers/format.js';
import type { AnyRulePeer, AnyRules, StatedVerdict } from '../rules/any-rules.js';
import { at } from '../rules/fields.js';
import {
  type QuotaKind,
  type QuotaLimiter,
  QuotaReader,
  type QuotaRule,
  type Quotas,
} from '../rules/quotas.js';
import type { RuleLimiter } from '../rules/rule-limiter.js';
import { REQUESTS, type ScopeSpec } from '../rules/sections.js';
import type { Cost, Keys, RuleVerdict } from '../rules/types.js';
import { ACTIONS, REFUSAL_REASONS } from '../rules/verdicts.js';
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

/** The rules that limit a kind of check, and their policies. */
interface PolicyKind extends QuotaKind {
  readonly stated: StatedPolicies | undefined;
  /** By the index of the rule; a rule that the fields cannot express has none. */
  readonly byRule: readonly (StatedPolicy | undefined)[];
}

export class RuleLimit<Request extends object, Response> {
  readonly limiter: AnyRules;
  readonly quotas: QuotaReader<PolicyKind>;
  readonly #options: RequestLimiterOptions<Request, Response>;
  readonly #keys: RequestKeys<Request, Response>;
  readonly #writer: FieldWriter<never>;

  /** @throws `ERR_LIMITER_OPTION` for a rule that the fields cannot express. */
  constructor(
    options: RequestLimiterOptions<Request, Response>,
    limiter: AnyRules,
    writer: FieldWriter<never>,
  ) {
    this.limiter = limiter;
    this.#options = options;
    this.#keys = new RequestKeys(limiter, options.client);
    this.#writer = writer;
    this.quotas = new QuotaReader(limiter as AnyRules & QuotaLimiter, (rules) =>
      this.#policiesOf(rules),
    );
    for (const rule of this.quotas.allRules()) this.#requireExpressible(rule);
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
            const peer = keys === undefined ? this.#keys.peerOf(request, response) : undefined;
            return this.#charge(peer, {
              keys: peer?.keys ?? this.#keys.of(request, response, keys),
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

  /** `peer`: of the same keys, if it is opened. */
  #charge(peer: AnyRulePeer | undefined, asked: Asked): MaybePromise<RequestCheck> {
    const { keys, cost, action, plan } = asked;
    const { limiter } = this;
    if (limiter.checkStated !== undefined) {
      const stated = limiter.checkStated(keys, cost, action, plan);
      return mapMaybePromise(stated, (stated) => this.#checkOf(asked, stated));
    }
    const verdict =
      peer !== undefined && plan === undefined
        ? peer.check(cost, action)
        : (limiter as AnyRules & RuleLimiter).check(keys, cost, action, plan);
    const isAllowed = verdict.outcome === 'allow';
    const isListed = isAllowed && limiter.context.lastKind < 0;
    // Otherwise they are looked up if they are needed.
    const isKnown = isAllowed && !isListed && this.#writer.writes;
    const quotas = isKnown ? this.quotas.afterCheck() : undefined;
    return new RuleCheck(this as never, asked, verdict, isListed, quotas);
  }

  /** What its rules have left is read at once: later it would take another call of the store. */
  #checkOf(asked: Asked, { verdict, recall }: StatedVerdict): RequestCheck {
    const isKnown = recall();
    const quotas = isKnown ? this.quotas.afterCheck() : undefined;
    // If no rule was asked, nothing has been taken that could be given back.
    const isListed = verdict.outcome === 'allow' && !isKnown;
    return new RuleCheck(this as never, asked, verdict, isListed, quotas);
  }

  #requireExpressible(rule: QuotaRule): void {
    const label = `for the option headers, ${at('rules', rule.name)}`;
    this.#writer.policies([this.#writer.policy(policyOfRule(rule), label)], label);
  }

  #policiesOf(rules: readonly QuotaRule[]): PolicyKind {
    const byRule = rules.map((rule) => this.#tryPolicy(rule));
    const expressible = byRule.filter((policy) => policy !== undefined);
    return { rules, stated: this.#writer.policies(expressible), byRule };
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

/** The part of a cost in a unit. */
function costIn(unit: string, cost: Cost): number {
  const whenAbsent = unit === REQUESTS ? 1 : 0;
  if (typeof cost === 'number') return unit === REQUESTS ? cost : 0;
  return cost[unit] ?? whenAbsent;
}

/** Its fields are public, as those of KeyCheck. */
class RuleCheck implements RequestCheck {
  previous: RequestCheck | undefined;
  readonly source: AnyRules;
  readonly limit: RuleLimit<never, never>;
  readonly asked: Asked;
  readonly verdict: RuleVerdict;
  readonly action: RateLimitAction;
  /** Whether an allow list has allowed it. */
  readonly isListed: boolean;
  /** What the rules say; undefined before they are asked for. */
  quotas: Quotas<PolicyKind> | undefined;

  constructor(
    limit: RuleLimit<never, never>,
    asked: Asked,
    verdict: RuleVerdict,
    isListed: boolean,
    quotas: Quotas<PolicyKind> | undefined,
  ) {
    this.previous = undefined;
    this.source = limit.limiter;
    this.limit = limit;
    this.asked = asked;
    this.verdict = verdict;
    this.action = ACTIONS[verdict.outcome];
    this.isListed = isListed;
    this.quotas = quotas;
  }

  get reason(): RefusalReason | undefined {
    const { outcome } = this.verdict;
    return outcome === 'allow' ? undefined : REFUSAL_REASONS[outcome];
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
    return this.#quotas()?.kind.stated;
  }

  limitFor(draft: Draft): LimitedPolicy | undefined {
    const quotas = this.#quotas();
    if (quotas === undefined) return undefined;
    const { rules, byRule } = quotas.kind;
    // Older drafts can state limits on requests only.
    const isAnyUnit = draft === 11;
    const refusing = this.rule === null ? -1 : rules.findIndex(({ name }) => name === this.rule);
    const isStated = refusing >= 0 && (isAnyUnit || rules[refusing]?.unit === REQUESTS);
    const tightest = isAnyUnit ? quotas.tightest : quotas.tightestOfRequests;
    const index = isStated ? refusing : tightest;
    const policy = index < 0 ? undefined : byRule[index];
    return policy && { policy, state: this.#stateOf(index, quotas) };
  }

  get retrySeconds(): number {
    const { outcome, delaySeconds } = this.verdict;
    if (outcome !== 'allow') return delaySeconds;
    return this.#look()?.verdict.delaySeconds ?? 0;
  }

  countsAgain(earlier: RequestCheck): boolean {
    // Checks of one RuleLimiter are of this class.
    const before = new Set((earlier as RuleCheck).paidBuckets());
    return this.paidBuckets().some((bucket) => before.has(bucket));
  }

  /** The buckets that an allowed check of this kind takes from, as texts. */
  paidBuckets(): string[] {
    // Not #quotas: the state of a limit without fields is that at the first call of rateLimitOf.
    const { kind } = this.quotas ?? this.#look()?.quotas ?? {};
    const { keys, cost } = this.asked;
    const rules = kind?.rules.filter(({ unit }) => costIn(unit, cost) > 0) ?? [];
    return rules.map(({ id, scope }) => JSON.stringify([id, this.#keyIn(scope, keys)]));
  }

  refund(): void {
    if (this.isListed) return;
    const { keys, cost, action, plan } = this.asked;
    try {
      const refunded = this.source.refund(keys, cost, action, plan);
      // Without a store nothing can be given back.
      if (isPromise(refunded)) refunded.then(undefined, () => {});
    } catch {
      // An update has removed the plan or a unit of the cost since the check.
    }
  }

  /** The key of a scope; that of the address for a derived one. */
  #keyIn(index: number, keys: Keys): string | undefined {
    const { scopes } = this.source.context;
    const { kind, name, from } = scopes[index] as ScopeSpec;
    return keys[kind === 'derived' ? (scopes[from] as ScopeSpec).name : name];
  }

  #stateOf(index: number, { kind, left }: Quotas<PolicyKind>): QuotaState {
    const { name, burst, rate } = kind.rules[index] as QuotaRule;
    const { outcome, delaySeconds } = this.verdict;
    const isEmpty = outcome === 'banned' || (outcome === 'delay' && name !== this.rule);
    return isEmpty ? emptyFor(delaySeconds) : bucketState(left[index] as number, burst, rate, 0);
  }

  /** What the rules say; undefined if a list has decided. */
  #quotas(): Quotas<PolicyKind> | undefined {
    this.quotas ??= this.#look()?.quotas;
    return this.quotas;
  }

  /** What the rules say now; undefined if a list has decided. */
  #look() {
    if (this.isListed || this.verdict.outcome === 'denied') return undefined;
    const { keys, cost, action, plan } = this.asked;
    try {
      return this.limit.quotas.look(keys, cost, action, plan);
    } catch {
      // As in refund.
      return undefined;
    }
  }
}
