// The verdicts of a SharedRuleLimiter without a reply of the store: the failure policy while it is down, and a delay where
// it answers but has too much to do. No verdict here counts a violation.

import { MAX_RULES, type RulePlan } from '../../engine/rules.js';
import type { ScopeSpec } from '../../rules/sections.js';
import type { RuleVerdict } from '../../rules/types.js';
import { ALLOWED, verdict } from '../../rules/verdicts.js';
import { Buckets, MOST_KEYS } from '../../tables/table.js';
import { LEASED_SHARE } from '../store/limit.js';
import { NoReplyError, OverloadError } from '../store/script-call.js';
import { nowSeconds, RETRY_SECONDS } from '../store/timing.js';
import type { SharedRuleConfig } from './options.js';
import type { RuleBuckets } from './rule-buckets.js';
import type { RuleId } from './rule-judge.js';
import type { RuleQuestion } from './rule-request.js';
import type { RuleStore } from './rule-store.js';

/** A rule that a check asks, with the key of its bucket and a cost above 0. */
export interface CostlyRule {
  readonly rule: RuleId;
  readonly id: string;
  readonly cost: number;
}

/** The part of a limiter that the failure policy needs. */
export interface FailuresOwner {
  currentPlan(): RulePlan;
  /** The rules that a check asks, except those on dry run. */
  rulesOf(question: RuleQuestion): CostlyRule[];
  /** The store refuses a key of a check, or its reply is invalid. */
  onFailure(error: Error): void;
}

/** The share of one node: a bucket per rule and key, empty when the store went down. */
class Share {
  readonly nodes: number;
  readonly #since = nowSeconds();
  readonly #maxPeers: number;
  readonly #tables = new Map<RuleId, Buckets>();

  constructor(nodes: number, maxPeers: number) {
    this.nodes = nodes;
    this.#maxPeers = Math.min(maxPeers, MOST_KEYS);
  }

  /** The tokens of a bucket; undefined if there is no room for it. */
  find(rule: RuleId, id: string): { table: Buckets; place: number } | undefined {
    let table = this.#tables.get(rule);
    if (table === undefined) {
      table = new Buckets();
      this.#tables.set(rule, table);
    }
    const known = table.find(id);
    if (known !== undefined) return { table, place: known };
    if (table.size >= this.#maxPeers) return undefined;
    return { table, place: table.insert(id, 0, this.#since) };
  }
}

export class RuleFailures {
  /** Verdicts of the failure policy. */
  fallbackVerdicts = 0;
  /** Verdicts that are a delay because the store has more calls than it answers in time. */
  overloadVerdicts = 0;
  readonly #config: SharedRuleConfig;
  readonly #scopes: readonly ScopeSpec[];
  readonly #store: RuleStore;
  readonly #buckets: RuleBuckets;
  readonly #owner: FailuresOwner;
  #share: Share | undefined;

  constructor(
    config: SharedRuleConfig,
    store: RuleStore,
    buckets: RuleBuckets,
    owner: FailuresOwner,
  ) {
    this.#config = config;
    this.#scopes = config.scopes;
    this.#store = store;
    this.#buckets = buckets;
    this.#owner = owner;
  }

  /** Call this when the store goes down or comes back. */
  reset(): void {
    this.#share = undefined;
  }

  /** The verdict for a check since `startedAt` whose deadline has passed. `wasBlocked`: see `Pending`. */
  late(question: RuleQuestion, startedAt: number, wasBlocked: boolean): RuleVerdict {
    const store = this.#store;
    const isOverload = wasBlocked || store.hasAnsweredSince(startedAt);
    return isOverload && store.state === 'up' ? this.overload() : this.fallback(question);
  }

  /** The verdict where the store answers, but has more calls than it answers in time. */
  overload(): RuleVerdict {
    this.overloadVerdicts += 1;
    return verdict('delay', RETRY_SECONDS, null, null, null);
  }

  /** The verdict for a check that was made before the rules changed. */
  outdated(): RuleVerdict {
    return verdict('delay', RETRY_SECONDS, null, null, null);
  }

  /** The verdict of the failure policy. `error`: why the call for this check failed, if there was one. */
  fallback(question: RuleQuestion, error?: Error): RuleVerdict {
    if (error instanceof OverloadError) return this.overload();
    this.fallbackVerdicts += 1;
    const isRefusedKey = error !== undefined && !(error instanceof NoReplyError);
    if (isRefusedKey) this.#owner.onFailure(error);
    const { onStoreFailure } = this.#config;
    if (onStoreFailure === 'open') return ALLOWED;
    if (question.plan !== this.#owner.currentPlan()) return this.outdated();
    const mustShare = onStoreFailure === 'share' && this.#store.state === 'down';
    if (!mustShare) return verdict('delay', RETRY_SECONDS, null, null, null);
    return this.#takeShare(question);
  }

  #takeShare(question: RuleQuestion): RuleVerdict {
    this.#share ??= new Share(this.#store.maxNodes, this.#config.maxPeers);
    const share = this.#share;
    const now = nowSeconds();
    let longest = 0;
    let refusing: RuleId = -1;
    const found = this.#owner.rulesOf(question).map(({ rule, id, cost }) => {
      const rate = this.#buckets.rate(rule, question.program) / share.nodes;
      // The rest of the burst may still be on lease.
      const burst = this.#buckets.burst(rule, question.program) * (1 - LEASED_SHARE);
      const capacity = Math.max(1, burst / share.nodes);
      const bucket = share.find(rule, id);
      const tokens = bucket?.table.refilledTokens(bucket.place, now, rate, capacity) ?? 0;
      const delay = cost > capacity ? Infinity : (cost - tokens) / rate;
      if (delay > longest) {
        longest = delay;
        refusing = rule;
      }
      return { bucket, cost, rate, capacity };
    });
    if (refusing >= 0) {
      const scope = this.#scopes[Math.floor(refusing / MAX_RULES)] as ScopeSpec;
      const name = this.#buckets.nameOf(refusing) ?? null;
      return verdict('delay', longest, name, scope.name, null);
    }
    for (const { bucket, cost, rate, capacity } of found) {
      bucket?.table.consume(bucket.place, cost, now, rate, capacity);
    }
    return ALLOWED;
  }
}
