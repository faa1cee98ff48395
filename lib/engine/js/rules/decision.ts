// RuleDecision asks the rules that apply to a check, charges them, and finds the refusing rule with the longest delay. It
// knows records only as arrays of doubles. Counterpart of native/limiters/rules/decision.h, with the same order of
// operations, so that both engines return bit-identical results.

import {
  AT_COSTS,
  AT_DELAY,
  AT_RULE,
  AT_SCOPE,
  AT_USED,
  AT_WARNING,
  COUNTS_VIOLATION,
  DRY_RUN,
  MAX_RULES,
  MAX_SCOPES,
  MAX_USED,
  RULE_NUMBERS,
  RULE_WARNED,
  type RulePlan,
} from '../../rules.js';

const STEPS_PER_SECOND = 2 ** 20;

/** A record with nothing used, for peers without a record. Nobody charges it anything but 0. */
const FRESH: Float64Array = new Float64Array(1 + MAX_RULES);

/** How often each rule was asked, by rule: at `scope * MAX_RULES + slot`. */
export class RuleCounters {
  readonly checked: Float64Array;
  readonly refused: Float64Array;
  readonly dryRunRefused: Float64Array;
  /** By scope: of rules whose slots have other rules now. */
  readonly replacedChecked: Float64Array;
  readonly replacedRefused: Float64Array;

  constructor(scopes: number) {
    this.checked = new Float64Array(scopes * MAX_RULES);
    this.refused = new Float64Array(scopes * MAX_RULES);
    this.dryRunRefused = new Float64Array(scopes * MAX_RULES);
    this.replacedChecked = new Float64Array(scopes);
    this.replacedRefused = new Float64Array(scopes);
  }

  /** A slot gets another rule. */
  replace(rule: number): void {
    const scope = Math.floor(rule / MAX_RULES);
    (this.replacedChecked[scope] as number) += this.checked[rule] as number;
    (this.replacedRefused[scope] as number) += this.refused[rule] as number;
    this.checked[rule] = 0;
    this.refused[rule] = 0;
    this.dryRunRefused[rule] = 0;
  }
}

export class RuleDecision {
  plan: RulePlan;
  /** Bit i is set if scope i is asked. */
  scopes = 0;
  /** After findRefusal(), for each violated scope the violating rule with the longest delay, as a slot. */
  readonly violatedSlots: Uint8Array = new Uint8Array(MAX_SCOPES);
  readonly #count: number;
  readonly #single: readonly boolean[];
  /** For each scope, the array with the peer's record, and the index of its first slot. */
  readonly #records: Float64Array[];
  readonly #slots: Int32Array;
  #program = 0;
  /** The rules that apply: the first `#asked` ones. */
  readonly #rules: Uint8Array;
  #asked = 0;
  /** For each of them, whether it allows the check: 1 or 0. */
  readonly #allows: Uint8Array;
  /** For each violated scope, the longest delay and its rule. */
  readonly #delays = new Float64Array(MAX_SCOPES);

  constructor(plan: RulePlan, single: readonly boolean[]) {
    this.plan = plan;
    this.#single = single;
    this.#count = single.length;
    this.#records = single.map(() => FRESH);
    this.#slots = new Int32Array(single.length).fill(1);
    this.#rules = new Uint8Array(single.length * MAX_RULES);
    this.#allows = new Uint8Array(single.length * MAX_RULES);
  }

  /** Begins a check. Each scope with applying rules must get a record before ask(). */
  begin(program: number): void {
    this.#program = program;
    this.#asked = 0;
    this.scopes = 0;
  }

  /** The plan that asks. */
  get planIndex(): number {
    return (this.#program / this.plan.actions) | 0;
  }

  /** The applying rules of a scope, one bit for each. */
  applying(scope: number): number {
    return this.plan.applies[this.#program * this.#count + scope] as number;
  }

  /** Adds a scope to those that are asked, with its record. */
  add(scope: number, record: Float64Array, base: number): void {
    this.scopes |= 1 << scope;
    this.move(scope, record, base);
    let asked = this.#asked;
    for (let bits = this.applying(scope); bits !== 0; bits &= bits - 1) {
      this.#rules[asked] = scope * MAX_RULES + 31 - Math.clz32(bits & -bits);
      asked += 1;
    }
    this.#asked = asked;
  }

  addFresh(scope: number): void {
    this.add(scope, FRESH, 0);
  }

  /** Sets the record of a scope that is asked already, after it has moved. */
  move(scope: number, record: Float64Array, base: number): void {
    this.#records[scope] = record;
    this.#slots[scope] = base + 1;
  }

  /** Makes the next changes of a scope's record without effect. */
  useCopy(scope: number): void {
    const first = this.#slots[scope] as number;
    const copy = (this.#records[scope] as Float64Array).slice(first - 1, first + MAX_RULES);
    this.move(scope, copy, 0);
  }

  forget(scope: number): void {
    this.move(scope, FRESH, 0);
  }

  /** Whether all rules but those on dry run allow the check. */
  ask(): boolean {
    const { bursts, flags, units } = this.plan;
    const row = this.planIndex * this.#count * MAX_RULES;
    let allAllow = true;
    for (let n = 0; n < this.#asked; n += 1) {
      const rule = this.#rules[n] as number;
      const cost = RULE_NUMBERS[AT_COSTS + (units[rule] as number)] as number;
      const allows = this.#usedOf(rule) + cost <= (bursts[row + rule] as number);
      this.#allows[n] = allows ? 1 : 0;
      if (!allows && ((flags[rule] as number) & DRY_RUN) === 0) allAllow = false;
    }
    return allAllow;
  }

  /** Whether the check takes something from a scope if all rules but those on dry run allow it. */
  takes(scope: number): boolean {
    for (let n = 0; n < this.#asked; n += 1) {
      if (this.#allows[n] === 1 && this.#hasCost(scope, this.#rules[n] as number)) return true;
    }
    return false;
  }

  /** Whether a rule of a scope takes something that is not on dry run, whatever it allows. */
  takesUnasked(scope: number): boolean {
    for (let n = 0; n < this.#asked; n += 1) {
      const rule = this.#rules[n] as number;
      if (!this.#isDryRun(rule) && this.#hasCost(scope, rule)) return true;
    }
    return false;
  }

  /** Whether a dry-run rule of a scope takes something. */
  takesDryRun(scope: number): boolean {
    for (let n = 0; n < this.#asked; n += 1) {
      const rule = this.#rules[n] as number;
      const takes = this.#allows[n] === 1 && this.#isDryRun(rule);
      if (takes && this.#hasCost(scope, rule)) return true;
    }
    return false;
  }

  /**
   * Charges a check that all rules allow, and writes the used tokens of its rules. Calls no function, so that a check near
   * the end of the stack is whole.
   */
  charge(counters: RuleCounters): typeof RULE_WARNED | undefined {
    const { bursts, warnBelow, flags, units, ranks, actions } = this.plan;
    const row = ((this.#program / actions) | 0) * this.#count * MAX_RULES;
    const { checked, dryRunRefused } = counters;
    let least = Infinity;
    let warning = -1;
    for (let n = 0; n < this.#asked; n += 1) {
      const rule = this.#rules[n] as number;
      (checked[rule] as number) += 1;
      if (this.#allows[n] === 0) {
        (dryRunRefused[rule] as number) += 1;
        continue;
      }
      const scope = (rule / MAX_RULES) | 0;
      const record = this.#records[scope] as Float64Array;
      const at = (this.#slots[scope] as number) + rule - scope * MAX_RULES;
      const cost = RULE_NUMBERS[AT_COSTS + (units[rule] as number)] as number;
      const sum = (record[at] as number) + cost;
      const used = sum < MAX_USED ? sum : MAX_USED;
      record[at] = used;
      RULE_NUMBERS[AT_USED + rule] = used;
      const threshold = warnBelow[row + rule] as number;
      if (!(threshold > 0) || ((flags[rule] as number) & DRY_RUN) !== 0) continue;
      const burst = bursts[row + rule] as number;
      const share = (burst - used) / burst;
      if (!(share < threshold) || share > least) continue;
      if (share === least && !((ranks[rule] as number) < (ranks[warning] as number))) continue;
      least = share;
      warning = rule;
    }
    if (warning === -1) return undefined;
    RULE_NUMBERS[AT_DELAY] = 0;
    RULE_NUMBERS[AT_RULE] = -1;
    RULE_NUMBERS[AT_SCOPE] = -1;
    RULE_NUMBERS[AT_WARNING] = warning;
    return RULE_WARNED;
  }

  /** Counts a check for which there is no room. */
  countChecked({ checked }: RuleCounters): void {
    for (let n = 0; n < this.#asked; n += 1) {
      (checked[this.#rules[n] as number] as number) += 1;
    }
  }

  /** Writes the results of a check that a rule refuses. Returns a bit for each scope of which it is a violation. */
  findRefusal(): number {
    const { bursts, rates, flags, ranks } = this.plan;
    const row = this.planIndex * this.#count * MAX_RULES;
    let longest = -1;
    let refusing = -1;
    let violated = 0;
    for (let n = 0; n < this.#asked; n += 1) {
      const rule = this.#rules[n] as number;
      if (this.#allows[n] === 1 || this.#isDryRun(rule)) continue;
      const scope = (rule / MAX_RULES) | 0;
      const cost = this.#costOf(rule);
      const burst = bursts[row + rule] as number;
      const delay = delaySeconds(this.#usedOf(rule), cost, burst, rates[row + rule] as number);
      const rank = ranks[rule] as number;
      if (delay > longest || (delay === longest && rank < (ranks[refusing] as number))) {
        longest = delay;
        refusing = rule;
      }
      const counts = ((flags[rule] as number) & COUNTS_VIOLATION) !== 0;
      if (counts && cost > 0 && !this.#single[scope]) {
        this.#violate(scope, rule, delay, ((violated >> scope) & 1) === 0);
        violated |= 1 << scope;
      }
    }
    RULE_NUMBERS[AT_DELAY] = longest;
    RULE_NUMBERS[AT_RULE] = refusing;
    RULE_NUMBERS[AT_SCOPE] = Math.floor(refusing / MAX_RULES);
    return violated;
  }

  /** Counts a refused check, and charges the dry-run rules of `scopes` that allow it. */
  refuse({ checked, refused, dryRunRefused }: RuleCounters, scopes: number): void {
    for (let n = 0; n < this.#asked; n += 1) {
      const rule = this.#rules[n] as number;
      const isDryRun = this.#isDryRun(rule);
      (checked[rule] as number) += 1;
      if (this.#allows[n] === 0) ((isDryRun ? dryRunRefused : refused)[rule] as number) += 1;
      else if (isDryRun) this.#settleRule(scopes, rule, 1);
    }
  }

  /** Takes the costs (sign 1) from the rules of `scopes` that are not on dry run, or gives them back (sign -1). */
  settle(scopes: number, sign: 1 | -1): void {
    for (let n = 0; n < this.#asked; n += 1) {
      const rule = this.#rules[n] as number;
      if (!this.#isDryRun(rule)) this.#settleRule(scopes, rule, sign);
    }
  }

  #settleRule(scopes: number, rule: number, sign: 1 | -1): void {
    const scope = (rule / MAX_RULES) | 0;
    if (((scopes >> scope) & 1) === 0) return;
    const sum = this.#usedOf(rule) + sign * this.#costOf(rule);
    const at = (this.#slots[scope] as number) + rule - scope * MAX_RULES;
    (this.#records[scope] as Float64Array)[at] = sum > 0 ? Math.min(sum, MAX_USED) : 0;
  }

  #usedOf(rule: number): number {
    const scope = (rule / MAX_RULES) | 0;
    const at = (this.#slots[scope] as number) + rule - scope * MAX_RULES;
    return (this.#records[scope] as Float64Array)[at] as number;
  }

  #costOf(rule: number): number {
    return RULE_NUMBERS[AT_COSTS + (this.plan.units[rule] as number)] as number;
  }

  #isDryRun(rule: number): boolean {
    return ((this.plan.flags[rule] as number) & DRY_RUN) !== 0;
  }

  /** Whether a rule is of a scope and has a cost. */
  #hasCost(scope: number, rule: number): boolean {
    return ((rule / MAX_RULES) | 0) === scope && this.#costOf(rule) > 0;
  }

  #violate(scope: number, rule: number, delay: number, isFirst: boolean): void {
    const longest = this.#delays[scope] as number;
    const { ranks } = this.plan;
    const other = scope * MAX_RULES + (this.violatedSlots[scope] as number);
    const isLonger =
      delay > longest || (delay === longest && (ranks[rule] as number) < (ranks[other] as number));
    if (!isFirst && !isLonger) return;
    this.violatedSlots[scope] = rule - scope * MAX_RULES;
    this.#delays[scope] = delay;
  }
}

/**
 * Seconds until a rule allows the cost; Infinity if it never does. Rounded up to a step of the clock plus one step, so
 * that rounding cannot make a wait for exactly this time too short.
 */
export function delaySeconds(used: number, cost: number, burst: number, rate: number): number {
  if (cost > burst) return Infinity;
  const delay = (used + cost - burst) / rate;
  const steps = delay * STEPS_PER_SECOND;
  return Number.isFinite(steps) ? (Math.ceil(steps) + 1) / STEPS_PER_SECOND : delay;
}
