// Names and numbers of the buckets of a SharedRuleLimiter as the scripts get them. They are made once for each rule and
// plan, since formatting takes as long as the rest of a call.

import { DRY_RUN, MAX_RULES } from '../../engine/rules.js';
import type { RuleBook } from '../../rules/compile.js';
import type { ScopeSpec } from '../../rules/sections.js';
import { type RuleId, scopeOf } from './rule-judge.js';
import { keyPart } from './rule-keys.js';
import type { AskedRule } from './rule-request.js';
import type { RuleStore } from './rule-store.js';

export class RuleBuckets {
  readonly #scopes: readonly ScopeSpec[];
  readonly #store: RuleStore;
  #book: RuleBook;
  /** What the store's keys of a rule begin with, by id. */
  #prefixes: (string | undefined)[] = [];
  /** Rate, burst and slowest rate of a rule by plan and id, as the scripts read them. */
  #numbers: (string | undefined)[] = [];

  constructor(scopes: readonly ScopeSpec[], store: RuleStore, book: RuleBook) {
    this.#scopes = scopes;
    this.#store = store;
    this.#book = book;
  }

  /** The number of scopes. */
  get scopes(): number {
    return this.#scopes.length;
  }

  use(book: RuleBook): void {
    this.#book = book;
    this.#prefixes = [];
    this.#numbers = [];
  }

  rate(rule: RuleId, program: number): number {
    return this.#book.plan.rates[this.#at(rule, program)] as number;
  }

  burst(rule: RuleId, program: number): number {
    return this.#book.plan.bursts[this.#at(rule, program)] as number;
  }

  isDryRun(rule: RuleId): boolean {
    return ((this.#book.plan.flags[rule] as number) & DRY_RUN) !== 0;
  }

  /** The name of a rule; undefined if an update has removed it. */
  nameOf(rule: RuleId): string | undefined {
    return this.#book.ruleAt[rule]?.spec.name;
  }

  /** The store's key of a bucket. */
  key(rule: RuleId, id: string): string {
    let prefix = this.#prefixes[rule];
    if (prefix === undefined) {
      const scope = this.#scopes[scopeOf(rule)] as ScopeSpec;
      prefix = this.#store.bucketPrefix(scope.name, this.nameOf(rule) ?? '');
      this.#prefixes[rule] = prefix;
    }
    return prefix + keyPart(id);
  }

  /** Rate and burst of a rule, and its slowest rate in any plan, as the scripts read them. */
  numbers(rule: RuleId, program: number): string {
    return this.#numbersAt(this.#at(rule, program));
  }

  /** The same in a plan; in the base plan if an update has removed it. */
  numbersOfPlan(rule: RuleId, plan: number): string {
    const known = plan < this.#book.plan.plans ? plan : 0;
    return this.#numbersAt(known * this.#scopes.length * MAX_RULES + rule);
  }

  #numbersAt(at: number): string {
    let numbers = this.#numbers[at];
    if (numbers === undefined) {
      const { rates, bursts } = this.#book.plan;
      const perPlan = this.#scopes.length * MAX_RULES;
      let slowest = Infinity;
      for (let same = at % perPlan; same < rates.length; same += perPlan) {
        slowest = Math.min(slowest, rates[same] as number);
      }
      numbers = `${rates[at]} ${bursts[at]} ${slowest}`;
      this.#numbers[at] = numbers;
    }
    return numbers;
  }

  /** The argument of the script `check` about a rule. */
  argument(asked: AskedRule, program: number): string {
    const { rule, isReturned, known, left, cost, least, most } = asked;
    const flags = `${this.isDryRun(rule) ? 1 : 0} ${isReturned ? 1 : 0}`;
    return `${this.numbers(rule, program)} ${flags} ${known} ${left} ${cost} ${least} ${most}`;
  }

  /** The most seconds in which a bucket refills. */
  static longestRefill({ plan }: RuleBook): number {
    let longest = 0;
    for (let at = 0; at < plan.rates.length; at += 1) {
      const rate = plan.rates[at] as number;
      if (rate > 0) longest = Math.max(longest, (plan.bursts[at] as number) / rate);
    }
    return longest;
  }

  #at(rule: RuleId, program: number): number {
    const plan = Math.floor(program / this.#book.plan.actions);
    return plan * this.#scopes.length * MAX_RULES + rule;
  }
}
