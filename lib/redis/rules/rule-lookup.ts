// RuleLookup finds out what this node knows of the rules of a check: which have enough tokens on lease, and which refuse.

import { MAX_RULES } from '../../engine/rules.js';
import type { Place } from '../../tables/table.js';
import type { RuleBuckets } from './rule-buckets.js';
import type { CostlyRule } from './rule-failures.js';
import { type RuleId, type RuleJudge, scopeOf, slotOf } from './rule-judge.js';
import { type RuleQuestion, writeCosts } from './rule-request.js';
import type { RuleTables } from './rule-tables.js';

/** The rule has enough on lease, or is asked for nothing. */
export const COVERED = 0;
export const REFUSED = 1;
export const UNCOVERED = 2;

/** The rules of the current check. Valid until the next call of look(), collect() or costlyRules(). */
export class RuleLookup {
  /** The number of rules that apply; the arrays have one element for each, `places` one for each scope. */
  count = 0;
  readonly rules: Uint8Array;
  readonly known: Uint8Array;
  /** How long a rule refuses. */
  readonly seconds: Float64Array;
  /** Where the keys of the check have their records; negative without one. */
  readonly places: Int32Array;
  readonly #judge: RuleJudge;
  readonly #buckets: RuleBuckets;

  constructor(scopes: number, judge: RuleJudge, buckets: RuleBuckets) {
    this.#judge = judge;
    this.#buckets = buckets;
    this.rules = new Uint8Array(scopes * MAX_RULES);
    this.known = new Uint8Array(scopes * MAX_RULES);
    this.seconds = new Float64Array(scopes * MAX_RULES);
    this.places = new Int32Array(scopes);
  }

  /** Collects the rules of a check. */
  collect(mask: number, program: number): void {
    this.count = 0;
    for (let scope = 0; scope < this.places.length; scope += 1) {
      let bits = this.#judge.applying(scope, mask, program);
      for (; bits !== 0; bits &= bits - 1) {
        this.rules[this.count] = scope * MAX_RULES + 31 - Math.clz32(bits & -bits);
        this.count += 1;
      }
    }
  }

  /** Finds out what is known of the rules of a check. REFUSED if one refuses, else UNCOVERED if one is not covered. */
  look(
    tables: RuleTables,
    ids: RuleQuestion['ids'],
    mask: number,
    program: number,
    now: number,
  ): number {
    this.collect(mask, program);
    let result = COVERED;
    let last = -1;
    for (let n = 0; n < this.count; n += 1) {
      const rule = this.rules[n] as RuleId;
      const scope = scopeOf(rule);
      const table = tables.of(scope);
      if (scope !== last) this.places[scope] = table.find(ids[scope] ?? '') ?? -1;
      last = scope;
      const place = this.places[scope] as Place;
      const known = this.#lookAt(n, rule, place, program, now, tables);
      this.known[n] = known;
      if (known === COVERED || this.#buckets.isDryRun(rule)) continue;
      if (known === REFUSED || result === COVERED) result = known;
    }
    return result;
  }

  #lookAt(
    n: number,
    rule: RuleId,
    place: Place,
    program: number,
    now: number,
    tables: RuleTables,
  ): number {
    const scope = scopeOf(rule);
    const slot = slotOf(rule);
    const table = tables.of(scope);
    const cost = this.#judge.costOf(rule);
    if (cost > this.#buckets.burst(rule, program)) {
      this.seconds[n] = Infinity;
      return REFUSED;
    }
    if (place < 0) return cost === 0 ? COVERED : UNCOVERED;
    if (cost > 0 && table.spendable(place, slot, now) >= cost) return COVERED;
    const rate = this.#buckets.rate(rule, program);
    const plan = Math.floor(program / this.#judge.plan.actions);
    const seconds = table.refusedSeconds(place, slot, cost, { plan, rate }, now);
    this.seconds[n] = seconds;
    if (seconds > 0) return REFUSED;
    return cost === 0 ? COVERED : UNCOVERED;
  }

  /** The first scope of a rule that look() has found uncovered. */
  firstUncovered(): number {
    for (let n = 0; n < this.count; n += 1) {
      if (this.known[n] === UNCOVERED) return scopeOf(this.rules[n] as RuleId);
    }
    return 0;
  }

  /** The rules that a check asks, with a cost, but for those on dry run. Overwrites the costs in RULE_NUMBERS. */
  costlyRules({ ids, mask, program, costs }: RuleQuestion): CostlyRule[] {
    writeCosts(costs);
    const found: CostlyRule[] = [];
    this.collect(mask, program);
    for (let n = 0; n < this.count; n += 1) {
      const rule = this.rules[n] as RuleId;
      const cost = this.#judge.costOf(rule);
      if (cost === 0 || this.#buckets.isDryRun(rule)) continue;
      found.push({ rule, id: ids[scopeOf(rule)] ?? '', cost });
    }
    return found;
  }
}
