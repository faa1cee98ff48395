// SharedRules: the parts of a SharedRuleLimiter, put together. It decides calls whose names have been resolved.

import { countingPauses, monotonicSeconds } from '../../common/clock.js';
import { type MaybePromise, mapMaybePromise } from '../../common/maybe-promise.js';
import type { BansInForce } from '../../common/types.js';
import {
  AT_USED,
  RULE_DELAYED,
  RULE_NUMBERS,
  type RuleAnswer,
  type RuleScopeStatistics,
  type RuleTotals,
} from '../../engine/rules.js';
import { selectEngine } from '../../engine/select.js';
import type { StatedVerdict } from '../../rules/any-rules.js';
import type { RuleBook } from '../../rules/compile.js';
import type { LimiterContext } from '../../rules/limiter-context.js';
import type { Listed } from '../../rules/scope-keys.js';
import type { RuleBan, RuleVerdict } from '../../rules/types.js';
import { ALLOWED, verdict } from '../../rules/verdicts.js';
import { idOf } from '../store/keys.js';
import { ReplyClock } from '../store/reply-clock.js';
import type { StateChange } from '../store/shard-health.js';
import type { SharedRuleConfig } from './options.js';
import { RuleBans } from './rule-bans.js';
import { RuleBuckets } from './rule-buckets.js';
import { NEEDS_STORE, RuleChecks } from './rule-checks.js';
import { RuleFailures } from './rule-failures.js';
import type { RuleTotalNames } from './rule-fleet.js';
import { RuleJudge } from './rule-judge.js';
import { RulePunisher, type Violation } from './rule-punisher.js';
import {
  type Outcome,
  questionOf,
  type RuleQuestion,
  type UsedRecord,
  writeCosts,
} from './rule-request.js';
import { RuleStore } from './rule-store.js';
import { RuleTables } from './rule-tables.js';
import { RuleUpdates } from './rule-updates.js';

/**
 * How a check may be answered. `local`: only if no reply of the store is needed. `ahead`: at once, with a request that
 * covers the next check. `async`: after a reply of the store.
 */
export type Wish = 'local' | 'ahead' | 'async';

/** What `decide` returns, by wish. */
export interface Decided {
  readonly local: RuleVerdict | undefined;
  readonly ahead: RuleVerdict;
  readonly async: MaybePromise<RuleVerdict>;
}

/** A call whose names have been resolved. Its costs are in RULE_NUMBERS. */
export interface ResolvedCall {
  /** The keys by scope, or their digests; see `toIds`. */
  readonly keys: readonly (string | undefined)[];
  readonly mask: number;
  readonly program: number;
  readonly listed: Listed;
}

export interface SharedRulesListener {
  onState(change: StateChange): void;
  /** The rules have been replaced. */
  onRules(): void;
  onFailure(error: Error): void;
}

export class SharedRules {
  readonly bans: RuleBans;
  readonly store: RuleStore;
  readonly failures: RuleFailures;
  readonly #config: SharedRuleConfig;
  readonly #context: LimiterContext;
  readonly #judge: RuleJudge;
  readonly #buckets: RuleBuckets;
  readonly #tables: RuleTables | undefined;
  readonly #checks: RuleChecks;
  readonly #clock: ReplyClock;
  readonly #punisher: RulePunisher;
  readonly #updates: RuleUpdates;

  constructor(config: SharedRuleConfig, context: LimiterContext, listener: SharedRulesListener) {
    const { scopes, book, mode, maxPeers } = config;
    this.#config = config;
    this.#context = context;
    this.#clock = new ReplyClock(config.clock ?? countingPauses(monotonicSeconds));
    const now = () => this.#clock.readInReply();
    this.#judge = new RuleJudge(scopes, book.plan, selectEngine(config.engine), maxPeers, now);
    this.#updates = new RuleUpdates(
      context,
      (next) => {
        this.#use(next);
        listener.onRules();
      },
      (error) => listener.onFailure(error),
    );
    const onState = (change: StateChange) => {
      this.failures.reset();
      listener.onState(change);
    };
    const longest = RuleBuckets.longestRefill(book);
    const totals = () => this.#ownTotals();
    this.store = new RuleStore(config, longest, onState, this.#updates, totals);
    this.#buckets = new RuleBuckets(scopes, this.store, book);
    this.failures = new RuleFailures(config, this.store, this.#buckets, {
      currentPlan: () => this.#judge.plan,
      rulesOf: (question) => this.#checks.costlyRules(question),
      onFailure: (error) => listener.onFailure(error),
    });
    if (mode === 'leased') {
      this.#tables = new RuleTables(config, this.store, this.#buckets, {
        isBusy: (scope, id) => this.#checks.isBusy(scope, id),
        now,
      });
    }
    this.#checks = new RuleChecks({
      config,
      store: this.store,
      judge: this.#judge,
      buckets: this.#buckets,
      tables: this.#tables,
      failures: this.failures,
      clock: this.#clock,
      outcomeOf: (answer, { ids, record }) => {
        if (record !== undefined) record.used = this.#judge.used();
        return this.#outcomeOf(answer, ids);
      },
    });
    this.bans = new RuleBans(config);
    this.#punisher = new RulePunisher(config, this.store, context, this.bans);
  }

  /** Reads the clock for a call. @throws `ERR_LIMITER_CLOCK` */
  now(): number {
    return this.#clock.read();
  }

  /** Undefined if the check needs a reply of the store and `wish` is `local`; then it has had no effect. */
  decide<Given extends Wish>(
    wish: Given,
    call: ResolvedCall,
    now: number,
    record?: UsedRecord,
  ): Decided[Given] {
    return this.#decide(wish, call, now, record) as Decided[Given];
  }

  #decide(
    wish: Wish,
    { keys: ids, mask, program, listed }: ResolvedCall,
    now: number,
    record: UsedRecord | undefined,
  ): MaybePromise<RuleVerdict> | undefined {
    const context = this.#context;
    if (listed !== undefined) return this.#counted(context.listedVerdict(listed), ids);
    const ban = this.bans.find(ids, mask);
    if (ban !== undefined) {
      this.#judge.banned += 1;
      return this.#counted(verdict('banned', ban.seconds, null, ban.scope, null), ids);
    }
    context.setKind(program, mask);
    const answer = this.#checks.decideLocally(ids, mask, program, now);
    if (answer !== NEEDS_STORE && record !== undefined) record.used = this.#judge.used();
    if (answer === undefined) return ALLOWED;
    if (answer !== NEEDS_STORE) {
      const { verdict, ifBanned } = this.#outcomeOf(answer, ids);
      return wish === 'async' ? (ifBanned ?? verdict) : verdict;
    }
    const isDown = this.store.state === 'down';
    if (wish === 'local' && !isDown) return undefined;
    const question = questionOf(ids, mask, program, this.#judge.plan, record);
    if (isDown) return this.failures.fallback(question);
    return wish === 'ahead'
      ? this.#checks.requestAhead(question, now)
      : this.#checks.ask(question, now);
  }

  /** Decides a call, and keeps what the rules have used. */
  state(call: ResolvedCall, now: number): MaybePromise<StatedVerdict> {
    const context = this.#context;
    const { mask, program } = call;
    const { plan } = this.#judge;
    const { costs } = questionOf([], mask, program, plan);
    const record: UsedRecord = { used: undefined };
    const recall = () => {
      if (record.used === undefined || plan !== this.#judge.plan) return false;
      writeCosts(costs);
      RULE_NUMBERS.set(record.used, AT_USED);
      context.setKind(program, mask);
      return true;
    };
    const verdict = this.decide('async', call, now, record);
    return mapMaybePromise(verdict, (verdict) => ({ verdict, recall }));
  }

  /** Resolves with what a check would return, and the used tokens of the rules by id. @throws `ERR_LIMITER_STORE` */
  async peek(call: ResolvedCall): Promise<{ verdict: RuleVerdict; used: Float64Array }> {
    const { keys, mask, program, listed } = call;
    const question = questionOf(keys, mask, program, this.#judge.plan);
    const used = await this.#checks.peeks.read(question);
    if (question.plan !== this.#judge.plan) return { verdict: this.failures.outdated(), used };
    if (listed !== undefined) return { verdict: this.#context.listAnswer(listed), used };
    const ban = this.bans.find(question.ids, mask);
    if (ban !== undefined)
      return { verdict: verdict('banned', ban.seconds, null, ban.scope, null), used };
    return { verdict: this.#context.answerOf(this.#checks.peeks.judge(question, used)), used };
  }

  /** Takes the costs of a call (sign 1) without asking, or gives them back (sign -1). @throws `ERR_LIMITER_STORE` */
  async settle({ keys, mask, program }: ResolvedCall, sign: 1 | -1): Promise<void> {
    const question = questionOf(keys, mask, program, this.#judge.plan);
    await this.#checks.settle(question, sign);
  }

  /** Returns what is on lease for a key to the store. */
  release(scope: number, key: string): void {
    this.#checks.release(scope, idOf(key));
  }

  /** Replaces sections of the rules of all nodes. @throws (rejects with) `ERR_LIMITER_OPTION`, `ERR_LIMITER_STORE` */
  update(given: Readonly<Record<string, unknown>>): Promise<void> {
    return this.store.watch.change(() => this.#updates.textWith(given));
  }

  /** @throws `ERR_LIMITER_MEMORY` */
  #use(book: RuleBook): void {
    const { book: before } = this.#context;
    if (book.plan !== before.plan) {
      this.#judge.use(book.plan);
      this.#tables?.use(book, before);
      this.#buckets.use(book);
      this.failures.reset();
      this.store.setLongestRefill(RuleBuckets.longestRefill(book));
    }
    this.#context.use(book);
  }

  get leasedTokens(): number {
    return this.#tables?.leasedTokens() ?? 0;
  }

  async close(): Promise<void> {
    await this.#checks.whenIdle();
    await this.#tables?.close();
    await this.bans.shared.close();
    await this.store.close();
  }

  // The next four are as those of RulesCore, for statistics: they count what this process has done.

  totals(): RuleTotals {
    return this.#judge.totals();
  }

  statistics(scope: number): RuleScopeStatistics {
    const found = this.#judge.statistics(scope);
    const isSingle = this.#config.scopes[scope]?.kind === 'single';
    return {
      ...found,
      peers: isSingle ? 0 : (this.#tables?.of(scope).size ?? found.peers),
      bansBegun: this.#punisher.bansBegun[scope] as number,
      evictions: this.#tables?.evictions[scope] ?? 0,
      lossyEvictions: 0,
      refusedNewcomers: 0,
    };
  }

  longestBans(scope: number, most: number): BansInForce {
    return this.bans.longest(scope, most);
  }

  violations(scope: number, key: string): number {
    return this.#judge.violations(scope, idOf(key));
  }

  /** Forgets the violations of a key that this process has counted, and returns its leases. */
  removePeer(scope: number, key: string): void {
    this.#judge.forget(scope, idOf(key));
    this.release(scope, key);
  }

  /** Counts a refusal for the statistics of all processes. */
  #counted<Verdict extends RuleVerdict | undefined>(
    verdict: Verdict,
    ids: RuleQuestion['ids'],
  ): Verdict {
    if (verdict !== undefined) this.store.fleet.count(verdict, ids);
    return verdict;
  }

  /** What this process has done. */
  #ownTotals(): Record<RuleTotalNames, number> {
    const { allowed, delayed, banned } = this.#judge;
    const { allow, denied } = this.#context.listedCounts;
    const { fallbackVerdicts: fallback, overloadVerdicts: overload } = this.failures;
    const bans = this.#punisher.bansBegun.reduce((sum, count) => sum + count, 0);
    return { allow: allowed + allow, delay: delayed, banned, denied, bans, fallback, overload };
  }

  /** Shapes an answer, and counts violations. */
  #outcomeOf(answer: RuleAnswer | undefined, ids: RuleQuestion['ids']): Outcome {
    const result = this.#context.answerOf(answer);
    this.#counted(result, ids);
    const { violated } = this.#judge;
    if (answer !== RULE_DELAYED || violated === 0) return { verdict: result };
    const violations: Violation[] = [];
    for (const { index } of this.#config.scopes) {
      if (((violated >> index) & 1) === 0) continue;
      const rule = this.#buckets.nameOf(this.#judge.violatedRule(index)) ?? '';
      violations.push({ scope: index, id: ids[index] ?? '', rule });
    }
    this.#judge.countViolations(ids, violated);
    const bans = this.#punisher.count(violations);
    if (bans === undefined) return { verdict: result };
    return { verdict: result, ifBanned: bans.then((begun) => this.#banned(begun) ?? result) };
  }

  /** The verdict of a check that has begun bans; undefined if it has begun none. */
  #banned(begun: readonly RuleBan[]): RuleVerdict | undefined {
    let longest = begun[0];
    if (longest === undefined) return undefined;
    for (const ban of begun) if (ban.banDuration > longest.banDuration) longest = ban;
    this.#judge.delayed -= 1;
    this.#judge.banned += 1;
    return verdict('banned', longest.banDuration, longest.rule, longest.scope, null);
  }
}

/** Replaces keys by ids: a long key becomes its digest. */
export function toIds(keys: (string | undefined)[]): void {
  for (let scope = 0; scope < keys.length; scope += 1) {
    const key = keys[scope];
    if (key !== undefined) keys[scope] = idOf(key);
  }
}
