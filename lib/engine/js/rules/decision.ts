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

/** How often each rule was asked, at `scope * MAX_RULES + slot`. */
export class RuleCounts {
  readonly checked: Float64Array;
  readonly refused: Float64Array;
  readonly dryRunRefused: Float64Array;

  constructor(scopes: number) {
    this.checked = new Float64Array(scopes * MAX_RULES);
    this.refused = new Float64Array(scopes * MAX_RULES);
    this.dryRunRefused = new Float64Array(scopes * MAX_RULES);
  }

  reset(rule: number): void {
    this.checked[rule] = 0;
    this.refused[rule] = 0;
    this.dryRunRefused[rule] = 0;
  }
}

export class RuleDecision {
  plan: RulePlan;
  /** Bit i is set if scope i is asked. */
  scopes = 0;
  /** Bit i is set if scope i has a rule that takes something of this check in any case, or if all rules allow it. */
  charged = 0;
  /** After findRefusal(), bit i is set if scope i has a dry-run rule that takes something. */
  dryRunCharged = 0;
  /** After findRefusal(), bit i is set if the check is a violation of scope i. */
  violated = 0;
  /** After findRefusal(), for each violated scope the violating rule with the longest delay, as a slot. */
  readonly violatedSlots: Uint8Array = new Uint8Array(MAX_SCOPES);
  readonly #count: number;
  readonly #single: readonly boolean[];
  /** For each scope, the array with the peer's record, and the index at which the record begins. */
  readonly #records: Float64Array[];
  readonly #bases: Int32Array;
  #program = 0;
  /** For each violated scope, the longest delay and the rank of its rule. */
  readonly #delays = new Float64Array(MAX_SCOPES);
  readonly #ranks = new Uint8Array(MAX_SCOPES);

  constructor(plan: RulePlan, single: readonly boolean[]) {
    this.plan = plan;
    this.#single = single;
    this.#count = single.length;
    this.#records = single.map(() => FRESH);
    this.#bases = new Int32Array(single.length);
  }

  /** Begins a check. Each scope with applying rules must get a record before ask(). */
  begin(program: number): void {
    this.#program = program;
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

  setRecord(scope: number, record: Float64Array, base: number): void {
    this.scopes |= 1 << scope;
    this.#records[scope] = record;
    this.#bases[scope] = base;
  }

  setFresh(scope: number): void {
    this.setRecord(scope, FRESH, 0);
  }

  /** Makes the next changes of a scope's record without effect. */
  useCopy(scope: number): void {
    const base = this.#bases[scope] as number;
    const copy = (this.#records[scope] as Float64Array).slice(base, base + 1 + MAX_RULES);
    this.setRecord(scope, copy, 0);
  }

  /** Whether all rules but those on dry run allow the check. Sets `charged`. */
  ask(): boolean {
    const { bursts, flags, units } = this.plan;
    const planRow = this.planIndex * this.#count;
    let allAllow = true;
    this.charged = 0;
    for (let scope = 0; scope < this.#count; scope += 1) {
      if (((this.scopes >> scope) & 1) === 0) continue;
      const record = this.#records[scope] as Float64Array;
      const state = (this.#bases[scope] as number) + 1;
      const row = (planRow + scope) * MAX_RULES;
      for (let bits = this.applying(scope); bits !== 0; bits &= bits - 1) {
        const slot = 31 - Math.clz32(bits & -bits);
        const rule = scope * MAX_RULES + slot;
        const cost = RULE_NUMBERS[AT_COSTS + (units[rule] as number)] as number;
        if ((record[state + slot] as number) + cost <= (bursts[row + slot] as number)) {
          if (cost > 0) this.charged |= 1 << scope;
        } else if (((flags[rule] as number) & DRY_RUN) === 0) {
          allAllow = false;
        }
      }
    }
    return allAllow;
  }

  /** Charges a check that all rules allow, and writes the used tokens of its rules. Calls no function, so that a check near the end of the stack is whole. */
  charge(counts: RuleCounts): typeof RULE_WARNED | undefined {
    const { bursts, warnings, flags, units, ranks, applies, actions } = this.plan;
    const planRow = ((this.#program / actions) | 0) * this.#count;
    const programRow = this.#program * this.#count;
    const { checked, dryRunRefused } = counts;
    let least = Infinity;
    let warning = -1;
    for (let scope = 0; scope < this.#count; scope += 1) {
      if (((this.scopes >> scope) & 1) === 0) continue;
      const record = this.#records[scope] as Float64Array;
      const state = (this.#bases[scope] as number) + 1;
      const row = (planRow + scope) * MAX_RULES;
      for (let bits = applies[programRow + scope] as number; bits !== 0; bits &= bits - 1) {
        const slot = 31 - Math.clz32(bits & -bits);
        const rule = scope * MAX_RULES + slot;
        const cost = RULE_NUMBERS[AT_COSTS + (units[rule] as number)] as number;
        const sum = (record[state + slot] as number) + cost;
        const used = sum < MAX_USED ? sum : MAX_USED;
        const burst = bursts[row + slot] as number;
        (checked[rule] as number) += 1;
        if (((flags[rule] as number) & DRY_RUN) !== 0) {
          if (sum <= burst) record[state + slot] = used;
          else (dryRunRefused[rule] as number) += 1;
          continue;
        }
        record[state + slot] = used;
        RULE_NUMBERS[AT_USED + rule] = used;
        const threshold = warnings[row + slot] as number;
        if (!(threshold > 0)) continue;
        const share = (burst - used) / burst;
        if (!(share < threshold) || share > least) continue;
        if (share === least && !((ranks[rule] as number) < (ranks[warning] as number))) continue;
        least = share;
        warning = rule;
      }
    }
    if (warning === -1) return undefined;
    RULE_NUMBERS[AT_DELAY] = 0;
    RULE_NUMBERS[AT_RULE] = -1;
    RULE_NUMBERS[AT_SCOPE] = -1;
    RULE_NUMBERS[AT_WARNING] = warning;
    return RULE_WARNED;
  }

  /** Writes the results of a check that a rule refuses, and finds out whose violation it is. */
  findRefusal(): void {
    const { bursts, rates, flags, units, ranks } = this.plan;
    const planRow = this.planIndex * this.#count;
    let longest = -1;
    let refusing = -1;
    this.violated = 0;
    this.dryRunCharged = 0;
    for (let scope = 0; scope < this.#count; scope += 1) {
      if (((this.scopes >> scope) & 1) === 0) continue;
      const record = this.#records[scope] as Float64Array;
      const state = (this.#bases[scope] as number) + 1;
      const row = (planRow + scope) * MAX_RULES;
      for (let bits = this.applying(scope); bits !== 0; bits &= bits - 1) {
        const slot = 31 - Math.clz32(bits & -bits);
        const rule = scope * MAX_RULES + slot;
        const cost = RULE_NUMBERS[AT_COSTS + (units[rule] as number)] as number;
        const used = record[state + slot] as number;
        const burst = bursts[row + slot] as number;
        const flag = flags[rule] as number;
        const allows = used + cost <= burst;
        if ((flag & DRY_RUN) !== 0) {
          if (allows && cost > 0) this.dryRunCharged |= 1 << scope;
          continue;
        }
        if (allows) continue;
        const delay = delaySeconds(used, cost, burst, rates[row + slot] as number);
        const rank = ranks[rule] as number;
        if (delay > longest || (delay === longest && rank < (ranks[refusing] as number))) {
          longest = delay;
          refusing = rule;
        }
        if ((flag & COUNTS_VIOLATION) !== 0 && cost > 0 && !this.#single[scope]) {
          this.#violate(scope, slot, delay, rank);
        }
      }
    }
    RULE_NUMBERS[AT_DELAY] = longest;
    RULE_NUMBERS[AT_RULE] = refusing;
    RULE_NUMBERS[AT_SCOPE] = Math.floor(refusing / MAX_RULES);
  }

  /** Counts a refused check, and charges the dry-run rules of `scopes` that allow it. */
  refuse(counts: RuleCounts, scopes: number): void {
    const { bursts, flags, units } = this.plan;
    const planRow = this.planIndex * this.#count;
    for (let scope = 0; scope < this.#count; scope += 1) {
      if (((this.scopes >> scope) & 1) === 0) continue;
      const record = this.#records[scope] as Float64Array;
      const state = (this.#bases[scope] as number) + 1;
      const row = (planRow + scope) * MAX_RULES;
      for (let bits = this.applying(scope); bits !== 0; bits &= bits - 1) {
        const slot = 31 - Math.clz32(bits & -bits);
        const rule = scope * MAX_RULES + slot;
        const cost = RULE_NUMBERS[AT_COSTS + (units[rule] as number)] as number;
        const sum = (record[state + slot] as number) + cost;
        const allows = sum <= (bursts[row + slot] as number);
        const isDryRun = ((flags[rule] as number) & DRY_RUN) !== 0;
        (counts.checked[rule] as number) += 1;
        if (isDryRun && allows) {
          if (((scopes >> scope) & 1) === 1) record[state + slot] = sum < MAX_USED ? sum : MAX_USED;
        } else if (!allows) {
          ((isDryRun ? counts.dryRunRefused : counts.refused)[rule] as number) += 1;
        }
      }
    }
  }

  /** Counts a check for which there is no room. */
  countChecked(counts: RuleCounts): void {
    for (let scope = 0; scope < this.#count; scope += 1) {
      if (((this.scopes >> scope) & 1) === 0) continue;
      for (let bits = this.applying(scope); bits !== 0; bits &= bits - 1) {
        (counts.checked[scope * MAX_RULES + 31 - Math.clz32(bits & -bits)] as number) += 1;
      }
    }
  }

  /** Whether a rule of a scope that is not on dry run takes something. */
  takes(scope: number): boolean {
    const { flags, units } = this.plan;
    for (let bits = this.applying(scope); bits !== 0; bits &= bits - 1) {
      const rule = scope * MAX_RULES + 31 - Math.clz32(bits & -bits);
      const cost = RULE_NUMBERS[AT_COSTS + (units[rule] as number)] as number;
      if (cost > 0 && ((flags[rule] as number) & DRY_RUN) === 0) return true;
    }
    return false;
  }

  /** Takes the costs (sign 1) from the rules of `scopes` that are not on dry run, or gives them back (sign -1). */
  settle(scopes: number, sign: 1 | -1): void {
    const { flags, units } = this.plan;
    for (let scope = 0; scope < this.#count; scope += 1) {
      if ((((this.scopes & scopes) >> scope) & 1) === 0) continue;
      const record = this.#records[scope] as Float64Array;
      const state = (this.#bases[scope] as number) + 1;
      for (let bits = this.applying(scope); bits !== 0; bits &= bits - 1) {
        const slot = 31 - Math.clz32(bits & -bits);
        const rule = scope * MAX_RULES + slot;
        if (((flags[rule] as number) & DRY_RUN) !== 0) continue;
        const cost = RULE_NUMBERS[AT_COSTS + (units[rule] as number)] as number;
        const sum = (record[state + slot] as number) + sign * cost;
        record[state + slot] = sum > 0 ? Math.min(sum, MAX_USED) : 0;
      }
    }
  }

  #violate(scope: number, slot: number, delay: number, rank: number): void {
    const isFirst = ((this.violated >> scope) & 1) === 0;
    const longest = this.#delays[scope] as number;
    const isLonger =
      delay > longest || (delay === longest && rank < (this.#ranks[scope] as number));
    if (!isFirst && !isLonger) return;
    this.violated |= 1 << scope;
    this.violatedSlots[scope] = slot;
    this.#delays[scope] = delay;
    this.#ranks[scope] = rank;
  }
}

/**
 * Seconds until a rule allows the cost; Infinity if it never does. Rounded up to a step of the clock plus one step, so
 * that rounding cannot make a wait for exactly this time too short.
 */
function delaySeconds(used: number, cost: number, burst: number, rate: number): number {
  if (cost > burst) return Infinity;
  const delay = (used + cost - burst) / rate;
  const steps = delay * STEPS_PER_SECOND;
  return Number.isFinite(steps) ? (Math.ceil(steps) + 1) / STEPS_PER_SECOND : delay;
}
