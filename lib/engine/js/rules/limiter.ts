// JsRuleLimiter decides the checks of the public class RuleLimiter. Counterpart of native/limiters/rules/limiter.h; the
// contract is lib/engine/rules.ts and the tests of both engines.

import { monotonicSeconds } from '../../../common/clock.js';
import {
  AT_BAN_RULE,
  AT_BAN_SECONDS,
  AT_BEGUN,
  AT_DELAY,
  AT_RANDOM,
  AT_RULE,
  AT_SCOPE,
  AT_USED,
  AT_VIOLATIONS,
  MAX_RULES,
  RULE_BANNED,
  RULE_DELAYED,
  RULE_NO_ROOM,
  RULE_NUMBERS,
  type RuleAnswer,
  type RuleKeys,
  type RulePlan,
  type RulesConfig,
  type RulesCore,
  type RuleTotals,
} from '../../rules.js';
import { saturatedSum } from '../counts.js';
import { reserveRulesStack } from '../stack.js';
import { RuleCounters, RuleDecision } from './decision.js';
import { lookUpSlot, writeSlot } from './peer-slots.js';
import { NOW } from './rates.js';
import { NONE, type ScopeState } from './scope.js';
import { RuleScopes } from './scopes.js';

/** The delay of a check for which there is no room, in seconds. */
const NO_ROOM_DELAY = 1;
/** Doubles of the longest record. */
const RECORD = 1 + MAX_RULES;

export class JsRuleLimiter extends RuleScopes implements RulesCore {
  readonly #decision: RuleDecision;
  readonly #counters: RuleCounters;
  #allowed = 0;
  #delayed = 0;
  #banned = 0;

  constructor(config: RulesConfig) {
    super(config);
    const { single, plan } = config;
    this.#decision = new RuleDecision(plan, single);
    this.#counters = new RuleCounters(single.length);
  }

  update(plan: RulePlan, now = monotonicSeconds()): void {
    reserveRulesStack();
    // Only this can fail. A record that is wider than the rules need is no error.
    for (const scope of this.scopes) scope.widen(plan.slots[scope.index] as number);
    this.rates.update(plan, this.#decision.plan.slots, this.rates.time(now));
    this.#decision.plan = plan;
    this.setPolicies(plan);
    for (let rule = 0; rule < this.scopes.length * MAX_RULES; rule += 1) {
      const added = plan.added[Math.floor(rule / MAX_RULES)] as number;
      if ((added >> (rule % MAX_RULES)) & 1) this.#counters.replace(rule);
    }
  }

  check(
    keys: RuleKeys,
    mask: number,
    program: number,
    now = monotonicSeconds(),
  ): RuleAnswer | undefined {
    this.rates.setTime(now);
    this.#lookUp(keys, mask);
    return this.#decide(keys, mask, program);
  }

  open(keys: RuleKeys, mask: number): void {
    this.#lookUp(keys, mask);
    for (const scope of this.scopes) {
      if ((mask >> scope.index) & 1 && !scope.isSingle) writeSlot(scope);
    }
  }

  checkPeer(
    keys: RuleKeys,
    mask: number,
    program: number,
    now = monotonicSeconds(),
  ): RuleAnswer | undefined {
    this.rates.setTime(now);
    const scopes = this.scopes;
    for (let i = 0; i < scopes.length; i += 1) {
      const scope = scopes[i] as ScopeState;
      if (((mask >> i) & 1) === 0 || scope.isSingle) continue;
      lookUpSlot(scope, keys[i] as string, this.keys);
    }
    return this.#decide(keys, mask, program);
  }

  peek(
    keys: RuleKeys,
    mask: number,
    program: number,
    now = monotonicSeconds(),
  ): { answer: RuleAnswer | undefined; used: Float64Array } {
    this.rates.setTime(now);
    const decision = this.#decision;
    const used = new Float64Array(this.scopes.length * MAX_RULES);
    this.#lookUp(keys, mask);
    decision.begin(program);
    for (const scope of this.scopes) {
      if (((mask >> scope.index) & 1) === 0) continue;
      const copy = this.#copyRefilled(scope, keys[scope.index], decision.planIndex);
      used.set(copy.subarray(1), scope.index * MAX_RULES);
      if (decision.applying(scope.index) !== 0) decision.add(scope.index, copy, 0);
    }
    return { answer: this.#answerPeek(mask), used };
  }

  look(
    keys: RuleKeys,
    mask: number,
    program: number,
    now = monotonicSeconds(),
  ): RuleAnswer | undefined {
    const { answer, used } = this.peek(keys, mask, program, now);
    RULE_NUMBERS.set(used, AT_USED);
    return answer;
  }

  refund(keys: RuleKeys, mask: number, program: number, now = monotonicSeconds()): void {
    reserveRulesStack();
    this.#lookUp(keys, mask);
    this.rates.setTime(now);
    this.#refill(keys, mask, program);
    this.#decision.settle(-1, -1);
  }

  charge(keys: RuleKeys, mask: number, program: number, now = monotonicSeconds()): void {
    reserveRulesStack();
    const time = this.rates.time(now);
    const decision = this.#decision;
    this.#lookUp(keys, mask);
    this.#refill(keys, mask, program);
    let newcomers = 0;
    let noRoom = 0;
    for (const scope of this.scopes) {
      const bit = 1 << scope.index;
      const isNew = (decision.scopes & bit) !== 0 && scope.place === NONE;
      if (!isNew || !decision.takesUnasked(scope.index)) continue;
      if (scope.admit(time)) newcomers |= bit;
      else noRoom |= bit;
    }
    this.#insert(keys, newcomers, 0, time);
    decision.settle(~noRoom, 1);
  }

  totals(): RuleTotals {
    const { checked, refused, dryRunRefused, replacedChecked, replacedRefused } = this.#counters;
    return {
      allowed: this.#allowed,
      delayed: this.#delayed,
      banned: this.#banned,
      checked: checked.slice(),
      refused: refused.slice(),
      dryRunRefused: dryRunRefused.slice(),
      replacedChecked: replacedChecked.slice(),
      replacedRefused: replacedRefused.slice(),
    };
  }

  override clear(): void {
    super.clear();
    // The last check's records may be in large arrays.
    for (const { index } of this.scopes) this.#decision.forget(index);
  }

  #lookUp(keys: RuleKeys, mask: number): void {
    const scopes = this.scopes;
    for (let i = 0; i < scopes.length; i += 1) {
      const scope = scopes[i] as ScopeState;
      if (((mask >> i) & 1) === 0 || scope.isSingle) continue;
      scope.lookUp(this.keys.find(keys[i] as string));
    }
  }

  #decide(keys: RuleKeys, mask: number, program: number): RuleAnswer | undefined {
    if (this.#findBan(mask)) {
      this.#banned += 1;
      return RULE_BANNED;
    }
    this.#refill(keys, mask, program);
    const decision = this.#decision;
    if (!decision.ask()) return this.#refuse(keys);
    let newcomers = 0;
    for (let i = 0; i < this.scopes.length; i += 1) {
      const isNew = (this.scopes[i] as ScopeState).place === NONE;
      const isAsked = ((decision.scopes >> i) & 1) === 1;
      if (isNew && isAsked && decision.takes(i)) newcomers |= 1 << i;
    }
    if (newcomers !== 0) {
      reserveRulesStack();
      const now = this.rates.clock[NOW] as number;
      let noRoom = 0;
      for (const scope of this.scopes) {
        if (((newcomers >> scope.index) & 1) === 0 || scope.admit(now)) continue;
        if (decision.takesUnasked(scope.index)) return this.#answerNoRoom(scope);
        noRoom |= 1 << scope.index;
      }
      this.#insert(keys, newcomers & ~noRoom, 0, now);
      if (noRoom !== 0) this.#leaveOut(noRoom);
    }
    const answer = decision.charge(this.#counters);
    this.#allowed += 1;
    return answer;
  }

  /** Whether a ban is in force; then writes the results of the longest one. */
  #findBan(mask: number): boolean {
    let longest = 0;
    let banned = -1;
    const scopes = this.scopes;
    for (let i = 0; i < scopes.length; i += 1) {
      if (((mask >> i) & 1) === 0) continue;
      const scope = scopes[i] as ScopeState;
      if (!scope.mayBeBanned()) continue;
      const left = scope.banSecondsLeft(this.rates.clock[NOW] as number);
      if (!(left > longest)) continue;
      longest = left;
      banned = i;
    }
    if (banned === -1) return false;
    RULE_NUMBERS[AT_DELAY] = longest;
    RULE_NUMBERS[AT_RULE] = -1;
    RULE_NUMBERS[AT_SCOPE] = banned;
    RULE_NUMBERS[AT_BEGUN] = 0;
    return true;
  }

  /** Refills the records of the scopes with applying rules, and gives them to the decision. */
  #refill(keys: RuleKeys, mask: number, program: number): void {
    const decision = this.#decision;
    decision.begin(program);
    const plan = decision.planIndex;
    const scopes = this.scopes;
    for (let i = 0; i < scopes.length; i += 1) {
      if (((mask >> i) & 1) === 0 || decision.applying(i) === 0) continue;
      const scope = scopes[i] as ScopeState;
      let { records, place } = scope;
      if (place === NONE) {
        const pending = scope.findPending(keys[i] as string);
        if (pending === undefined) {
          decision.addFresh(i);
          continue;
        }
        records = pending.records;
        place = pending.place;
      }
      const base = records.baseOf(place);
      this.rates.refill(records.numbers, base, i, scope.slots, plan);
      decision.add(i, records.numbers, base);
    }
  }

  /**
   * Adds what a check, a charge or a violation needs, in the scopes of `scopes`; the bits of `violated` are among them.
   * @throws `ERR_LIMITER_MEMORY`; then nothing has changed.
   */
  #insert(keys: RuleKeys, scopes: number, violated: number, now: number): void {
    let staged = 0;
    try {
      for (const scope of this.scopes) {
        const bit = 1 << scope.index;
        if ((scopes & bit) === 0) continue;
        const isViolation = (violated & bit) !== 0;
        const isPunished = isViolation && scope.policy !== undefined;
        scope.stage(keys[scope.index] as string, isViolation, isPunished, now);
        staged |= bit;
      }
    } catch (error) {
      for (const scope of this.scopes) if ((staged >> scope.index) & 1) scope.undo();
      throw error;
    }
    for (const scope of this.scopes) {
      if (((staged >> scope.index) & 1) === 0) continue;
      scope.commit(keys[scope.index] as string, now);
      const base = scope.records.baseOf(scope.place);
      this.#decision.move(scope.index, scope.records.numbers, base);
    }
  }

  /** What dry-run rules take in these scopes is not stored. */
  #leaveOut(noRoom: number): void {
    this.#countNoRoom(noRoom);
    for (const { index } of this.scopes) {
      if ((noRoom >> index) & 1) this.#decision.useCopy(index);
    }
  }

  #countNoRoom(noRoom: number): void {
    for (const { index, counters } of this.scopes) {
      if ((noRoom >> index) & 1) counters.refusedNewcomers += 1;
    }
  }

  #answerNoRoom(scope: ScopeState): typeof RULE_NO_ROOM {
    this.#decision.countChecked(this.#counters);
    scope.counters.refusedNewcomers += 1;
    this.#delayed += 1;
    RULE_NUMBERS[AT_DELAY] = NO_ROOM_DELAY;
    RULE_NUMBERS[AT_RULE] = -1;
    RULE_NUMBERS[AT_SCOPE] = scope.index;
    return RULE_NO_ROOM;
  }

  #refuse(keys: RuleKeys): typeof RULE_DELAYED | typeof RULE_BANNED {
    reserveRulesStack();
    const now = this.rates.clock[NOW] as number;
    const decision = this.#decision;
    const violated = decision.findRefusal();
    let changed = violated;
    let noRoom = 0;
    for (const scope of this.scopes) {
      const bit = 1 << scope.index;
      if (scope.place !== NONE) continue;
      if ((violated & bit) === 0 && !decision.takesDryRun(scope.index)) continue;
      changed |= bit;
      if (!scope.admit(now)) noRoom |= bit;
    }
    changed &= ~noRoom;
    this.#insert(keys, changed, violated, now);
    this.#countNoRoom(noRoom);
    decision.refuse(this.#counters, ~noRoom);
    if (this.#punish(violated & changed, now)) {
      this.#banned += 1;
      return RULE_BANNED;
    }
    this.#delayed += 1;
    return RULE_DELAYED;
  }

  /** Counts a violation in each scope of `violated`. Whether a ban begins; then writes the results. */
  #punish(violated: number, now: number): boolean {
    const { violatedSlots } = this.#decision;
    let longest = 0;
    RULE_NUMBERS[AT_BEGUN] = 0;
    for (const { index, key, policy, offenders, counters } of this.scopes) {
      if (((violated >> index) & 1) === 0) continue;
      const violations = saturatedSum(offenders.violations(key), 1);
      offenders.raiseViolations(key, violations);
      if (policy === undefined) continue;
      const random = RULE_NUMBERS[AT_RANDOM + index] as number;
      const seconds = offenders.punish(key, policy, random, now);
      if (seconds === 0) continue;
      counters.bansBegun += 1;
      const slot = violatedSlots[index] as number;
      (RULE_NUMBERS[AT_BEGUN] as number) += 1 << index;
      RULE_NUMBERS[AT_BAN_SECONDS + index] = seconds;
      RULE_NUMBERS[AT_VIOLATIONS + index] = violations;
      RULE_NUMBERS[AT_BAN_RULE + index] = slot;
      if (!(seconds > longest)) continue;
      longest = seconds;
      RULE_NUMBERS[AT_DELAY] = seconds;
      RULE_NUMBERS[AT_RULE] = index * MAX_RULES + slot;
      RULE_NUMBERS[AT_SCOPE] = index;
    }
    return longest > 0;
  }

  /** A copy of the record of the scope's current peer, refilled for a plan. */
  #copyRefilled(scope: ScopeState, text: string | undefined, plan: number): Float64Array {
    const copy = new Float64Array(RECORD);
    const found =
      scope.place === NONE
        ? scope.findPending(text as string)
        : { records: scope.records, place: scope.place };
    if (found === undefined) return copy;
    const { index, slots } = scope;
    const base = found.records.baseOf(found.place);
    copy.set(found.records.numbers.subarray(base, base + 1 + slots));
    this.rates.refill(copy, 0, index, slots, plan);
    return copy;
  }

  #answerPeek(mask: number): RuleAnswer | undefined {
    const decision = this.#decision;
    if (this.#findBan(mask)) return RULE_BANNED;
    if (decision.ask()) return decision.charge(new RuleCounters(this.scopes.length));
    decision.findRefusal();
    return RULE_DELAYED;
  }
}
