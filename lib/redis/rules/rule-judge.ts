// RuleJudge turns what is known of the buckets of a check into its result, by the arithmetic of the TypeScript engine
// (RuleDecision): the verdict, warnings, dry runs, counts, and of which scopes a refusal is a violation. It stores no bucket:
// each check passes how many tokens each rule has used.

import type { Engine } from '../../engine/engine.js';
import { RuleCounters, RuleDecision } from '../../engine/js/rules/decision.js';
import {
  AT_COSTS,
  MAX_RULES,
  RULE_DELAYED,
  RULE_NUMBERS,
  type RuleAnswer,
  type RuleKeys,
  type RulePlan,
  type RuleScopeStatistics,
  type RulesCore,
  type RuleTotals,
} from '../../engine/rules.js';
import type { ScopeSpec } from '../../rules/sections.js';

/** More than a rounding error, as a share of a burst. */
const ROUNDING = 2 ** -50;
/** The rules of a whole limiter, as `RulePlan` numbers them: `scope * MAX_RULES + slot`. */
export type RuleId = number;

export function scopeOf(rule: RuleId): number {
  return Math.floor(rule / MAX_RULES);
}

export function slotOf(rule: RuleId): number {
  return rule % MAX_RULES;
}

export class RuleJudge {
  plan: RulePlan;
  /** The scopes of which the last refusal is a violation, one bit for each. */
  violated = 0;
  /** Checks that a ban refused. */
  banned = 0;
  allowed = 0;
  delayed = 0;
  readonly #scopes: readonly ScopeSpec[];
  readonly #decision: RuleDecision;
  readonly #counters: RuleCounters;
  /** The used tokens of the current check, by scope: a record of RuleDecision. */
  readonly #records: readonly Float64Array[];
  /** Counts violations by key, for statistics. Each rule has an action of its own there. */
  readonly #offenders: RulesCore;
  /** Reads the time, and never throws: replies of the store count violations too. */
  readonly #now: () => number;
  #program = 0;

  constructor(
    scopes: readonly ScopeSpec[],
    plan: RulePlan,
    engine: Engine,
    maxPeers: number,
    now: () => number,
  ) {
    const single = scopes.map(({ kind }) => kind === 'single');
    this.#scopes = scopes;
    this.plan = plan;
    this.#decision = new RuleDecision(plan, single);
    this.#counters = new RuleCounters(scopes.length);
    this.#records = scopes.map(() => new Float64Array(1 + MAX_RULES));
    this.#offenders = engine.rules({ maxPeers, single, plan: offencesOf(plan, scopes.length) });
    this.#now = now;
  }

  use(plan: RulePlan): void {
    this.#offenders.update(offencesOf(plan, this.#scopes.length), this.#now());
    this.plan = plan;
    this.#decision.plan = plan;
    for (let rule = 0; rule < this.#scopes.length * MAX_RULES; rule += 1) {
      const added = plan.added[scopeOf(rule)] as number;
      if ((added >> slotOf(rule)) & 1) this.#counters.replace(rule);
    }
  }

  /** Begins a check. Its costs are in RULE_NUMBERS. Nothing is used yet. */
  begin(mask: number, program: number): void {
    const decision = this.#decision;
    this.#program = program;
    decision.begin(program);
    for (let scope = 0; scope < this.#records.length; scope += 1) {
      if (((mask >> scope) & 1) === 0 || decision.applying(scope) === 0) continue;
      const record = this.#records[scope] as Float64Array;
      record.fill(0);
      decision.add(scope, record, 0);
    }
  }

  /** The rules of a scope that apply, one bit for each slot. */
  applying(scope: number, mask: number, program: number): number {
    if (((mask >> scope) & 1) === 0) return 0;
    return this.plan.applies[program * this.#records.length + scope] as number;
  }

  costOf(rule: RuleId): number {
    return RULE_NUMBERS[AT_COSTS + (this.plan.units[rule] as number)] as number;
  }

  /** The index of a rule's numbers in the plan of a program. */
  at(rule: RuleId, program: number): number {
    const plan = Math.floor(program / this.plan.actions);
    return plan * this.#records.length * MAX_RULES + rule;
  }

  /** Sets the tokens that a rule has used before the check. */
  setUsed(rule: RuleId, used: number): void {
    const scope = scopeOf(rule);
    (this.#records[scope] as Float64Array)[1 + slotOf(rule)] = used;
  }

  /** Says that a rule allows the check. `used`: an estimate. */
  setAllowed(rule: RuleId, used: number): void {
    const burst = this.plan.bursts[this.at(rule, this.#program)] as number;
    const most = burst - this.costOf(rule) - burst * ROUNDING;
    this.setUsed(rule, Math.max(0, Math.min(used, most)));
  }

  /** Says that a rule refuses the check for some seconds. */
  setRefused(rule: RuleId, seconds: number): void {
    const at = this.at(rule, this.#program);
    const burst = this.plan.bursts[at] as number;
    const missing = Math.max(seconds * (this.plan.rates[at] as number), burst * ROUNDING);
    this.setUsed(rule, burst - this.costOf(rule) + Math.min(missing, Number.MAX_VALUE));
  }

  /**
   * Decides the check and counts it. The results are in RULE_NUMBERS, as those of an engine. Sets `violated`.
   * `peeks`: counts nothing.
   */
  conclude(peeks = false): RuleAnswer | undefined {
    const decision = this.#decision;
    const counters = peeks ? new RuleCounters(this.#records.length) : this.#counters;
    this.violated = 0;
    if (decision.ask()) {
      if (!peeks) this.allowed += 1;
      return decision.charge(counters);
    }
    this.violated = decision.findRefusal();
    decision.refuse(counters, -1);
    if (!peeks) this.delayed += 1;
    return RULE_DELAYED;
  }

  /** The used tokens of the current check, by rule; after conclude() with what it has taken. */
  used(): Float64Array {
    const used = new Float64Array(this.#records.length * MAX_RULES);
    for (const [scope, record] of this.#records.entries()) {
      used.set(record.subarray(1), scope * MAX_RULES);
    }
    return used;
  }

  /** Counts what a rule on dry run would have refused, of a check that has been counted as allowed. */
  countDryRefusal(rule: RuleId): void {
    (this.#counters.dryRunRefused[rule] as number) += 1;
  }

  /** After a refusal, the rule that refuses a violated scope for the longest time. */
  violatedRule(scope: number): RuleId {
    return scope * MAX_RULES + (this.#decision.violatedSlots[scope] as number);
  }

  /** Counts a violation of each scope of `violated` for the statistics. Overwrites RULE_NUMBERS. */
  countViolations(keys: RuleKeys, violated: number): void {
    for (let scope = 0; scope < this.#records.length; scope += 1) {
      if (((violated >> scope) & 1) === 0) continue;
      const rule = this.violatedRule(scope);
      // More than the burst, so that the rule refuses.
      RULE_NUMBERS[AT_COSTS] = 2;
      this.#offenders.check(keys, 1 << scope, 1 + rule, this.#now());
    }
  }

  /** As `RulesCore.totals`. */
  totals(): RuleTotals {
    const { checked, refused, dryRunRefused, replacedChecked, replacedRefused } = this.#counters;
    const { allowed, delayed, banned } = this;
    return {
      allowed,
      delayed,
      banned,
      checked: checked.slice(),
      refused: refused.slice(),
      dryRunRefused: dryRunRefused.slice(),
      replacedChecked: replacedChecked.slice(),
      replacedRefused: replacedRefused.slice(),
    };
  }

  /** As `RulesCore.statistics`, of the violations that this process has found. */
  statistics(scope: number): RuleScopeStatistics {
    return this.#offenders.statistics(scope);
  }

  /** The violations of a key that this process has found. */
  violations(scope: number, key: string): number {
    return this.#offenders.violations(scope, key);
  }

  forget(scope: number, key: string): void {
    this.#offenders.removePeer(scope, key);
  }
}

/** A plan in which action 1 + id is limited by one rule, of burst 1, and nobody is banned. */
function offencesOf(plan: RulePlan, scopes: number): RulePlan {
  const rules = scopes * MAX_RULES;
  const actions = 1 + rules;
  const applies = new Uint16Array(actions * scopes);
  const rates = plan.rates.slice(0, rules);
  for (let rule = 0; rule < rules; rule += 1) {
    if (!((rates[rule] as number) > 0)) continue;
    const scope = scopeOf(rule);
    applies[(1 + rule) * scopes + scope] = 1 << slotOf(rule);
  }
  return {
    ...plan,
    plans: 1,
    actions,
    applies,
    rates,
    bursts: new Float64Array(rules).fill(1),
    warnBelow: new Float64Array(rules),
    units: new Uint8Array(rules),
    origins: new Uint16Array(1),
    bans: plan.bans.map(() => undefined),
  };
}
