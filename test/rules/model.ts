// RulesModel is a RulesCore written from its specification as plainly as possible: objects in Maps, no tables and no
// bounded search. It shares no code with the engines.

import type { BansInForce } from '../../dist/common/types.js';
import {
  AT_BAN_RULE,
  AT_BAN_SECONDS,
  AT_BEGUN,
  AT_COSTS,
  AT_DELAY,
  AT_RANDOM,
  AT_RULE,
  AT_SCOPE,
  AT_USED,
  AT_VIOLATIONS,
  COUNTS_VIOLATION,
  DRY_RUN,
  MAX_RULES,
  RULE_BANNED,
  RULE_DELAYED,
  RULE_NO_ROOM,
  RULE_NUMBERS,
  type RuleAnswer,
  type RuleDigestColumns,
  type RuleKeys,
  type RuleOffenderColumns,
  type RulePlan,
  type RuleSnapshotStep,
  type RulesConfig,
  type RulesCore,
  type RuleTotals,
} from '../../dist/engine/rules.js';
import {
  type Asked,
  answerDelay,
  answerWarning,
  copyOf,
  count,
  longestOf,
  type Rule,
  refusalsOf,
  rounded,
  rulesOf,
  take,
  write,
} from './model/answers.js';
import { hasBit, ModelRates, type Peer } from './model/rates.js';
import { ModelScope } from './model/scope.js';

export class RulesModel implements RulesCore {
  readonly secretVersion = 0;
  readonly #scopes: ModelScope[];
  readonly #rates: ModelRates;
  readonly #totals: RuleTotals;

  constructor({ maxPeers, single, plan }: RulesConfig) {
    const rates = new ModelRates(plan, single.length);
    this.#rates = rates;
    this.#scopes = single.map((isSingle, i) => new ModelScope(i, isSingle, rates, maxPeers));
    const counts = () => new Float64Array(single.length * MAX_RULES);
    this.#totals = {
      ...{ allowed: 0, delayed: 0, banned: 0 },
      ...{ checked: counts(), refused: counts(), dryRunRefused: counts() },
      replacedChecked: new Float64Array(single.length),
      replacedRefused: new Float64Array(single.length),
    };
  }

  update(plan: RulePlan, now?: number): void {
    const { checked, refused, dryRunRefused, replacedChecked, replacedRefused } = this.#totals;
    for (const rule of this.#rates.update(plan, this.#rates.time(now))) {
      const scope = Math.floor(rule / MAX_RULES);
      (replacedChecked[scope] as number) += checked[rule] as number;
      (replacedRefused[scope] as number) += refused[rule] as number;
      for (const counts of [checked, refused, dryRunRefused]) counts[rule] = 0;
    }
  }

  check(keys: RuleKeys, mask: number, program: number, now?: number): RuleAnswer | undefined {
    const time = this.#rates.time(now);
    if (this.#answerBan(keys, mask, time)) {
      this.#totals.banned += 1;
      return RULE_BANNED;
    }
    const asked = this.#ask(keys, mask, program, time);
    for (const { index } of rulesOf(asked)) count(this.#totals.checked, index);
    return refusalsOf(asked).length === 0 ? this.#allow(asked, time) : this.#refuse(asked, time);
  }

  checkPeer(keys: RuleKeys, mask: number, program: number, now?: number): RuleAnswer | undefined {
    return this.check(keys, mask, program, now);
  }

  open(): void {}

  peek(keys: RuleKeys, mask: number, program: number, now?: number) {
    const time = this.#rates.time(now);
    const used = new Float64Array(this.#scopes.length * MAX_RULES);
    for (const scope of this.#scopesOf(mask)) {
      const peer = copyOf(scope.find(keys, time));
      this.#rates.refill(scope.index, peer, this.#planOf(program), time);
      used.set(peer.used, scope.index * MAX_RULES);
    }
    return { answer: this.#peekAnswer(keys, mask, program, time), used };
  }

  look(keys: RuleKeys, mask: number, program: number, now?: number): RuleAnswer | undefined {
    const { answer, used } = this.peek(keys, mask, program, now);
    RULE_NUMBERS.set(used, AT_USED);
    return answer;
  }

  refund(keys: RuleKeys, mask: number, program: number, now?: number): void {
    for (const { peer, rules } of this.#ask(keys, mask, program, this.#rates.time(now))) {
      for (const { slot, cost, isDryRun } of rules) {
        if (!isDryRun) peer.used[slot] = Math.max(0, (peer.used[slot] as number) - cost);
      }
    }
  }

  charge(keys: RuleKeys, mask: number, program: number, now?: number): void {
    const time = this.#rates.time(now);
    for (const { scope, peer, rules } of this.#ask(keys, mask, program, time)) {
      const charged = rules.filter(({ isDryRun, cost }) => !isDryRun && cost > 0);
      if (charged.length > 0 && scope.store(peer, time)) take(peer, charged);
    }
  }

  ban(scope: number, key: string, seconds: number, now?: number): boolean {
    return this.#scope(scope).ban(key, seconds, this.#rates.time(now));
  }

  unban(scope: number, key: string, now?: number): boolean {
    return this.#scope(scope).unban(key, this.#rates.time(now));
  }

  banSecondsLeft(scope: number, key: string, now?: number): number {
    const { bans } = this.#scope(scope).longestBans(Infinity, this.#rates.time(now));
    return bans.find(([banned]) => banned === key)?.[1] ?? 0;
  }

  longestBans(scope: number, most: number, now?: number): BansInForce {
    return this.#scope(scope).longestBans(most, this.#rates.time(now));
  }

  violations(scope: number, key: string): number {
    return this.#scope(scope).violations(key);
  }

  removePeer(scope: number, key: string): void {
    this.#scope(scope).remove(key);
  }

  cleanup(maxIdle: number, _: number, now?: number): number {
    const time = this.#rates.time(now);
    return this.#scopes.reduce((removed, scope) => removed + scope.cleanup(maxIdle, time), 0);
  }

  isCleaning(): boolean {
    return false;
  }

  totals(): RuleTotals {
    return structuredClone(this.#totals);
  }

  statistics(scope: number) {
    return this.#scope(scope).statistics();
  }

  *snapshot(scope: number, _: number, now: () => number): Generator<RuleSnapshotStep> {
    yield this.#scope(scope).snapshot(this.#rates.time(now()));
  }

  restore(scope: number, offenders: RuleOffenderColumns, now?: number): number {
    return this.#scope(scope).restore(offenders, this.#rates.time(now));
  }

  adopt(): void {}

  restoreDigests(scope: number, digests: RuleDigestColumns, now?: number): number {
    return this.#scope(scope).restoreDigests(digests, this.#rates.time(now));
  }

  saveSingle(scope: number, now?: number): Float64Array {
    return this.#scope(scope).saveSingle(this.#rates.time(now));
  }

  restoreSingle(scope: number, numbers: Float64Array, now?: number): void {
    this.#scope(scope).restoreSingle([...numbers], this.#rates.time(now));
  }

  clear(): void {
    for (const scope of this.#scopes) scope.clear();
  }

  #scope(index: number): ModelScope {
    return this.#scopes[index] as ModelScope;
  }

  #scopesOf(mask: number): ModelScope[] {
    return this.#scopes.filter(({ index }) => hasBit(mask, index));
  }

  #planOf(program: number): number {
    return Math.floor(program / this.#rates.plan.actions);
  }

  /** Refills the peers of all scopes with applying rules. */
  #ask(keys: RuleKeys, mask: number, program: number, time: number): Asked[] {
    const asked: Asked[] = [];
    for (const scope of this.#scopesOf(mask)) {
      if (this.#applies(scope.index, program) === 0) continue;
      const peer = scope.find(keys, time);
      this.#rates.refill(scope.index, peer, this.#planOf(program), time);
      asked.push({ scope, peer, rules: this.#askRules(scope.index, peer, program) });
    }
    return asked;
  }

  #applies(scope: number, program: number): number {
    return this.#rates.plan.applies[program * this.#scopes.length + scope] as number;
  }

  #askRules(scope: number, { used }: Peer, program: number): Rule[] {
    const { plan } = this.#rates;
    const applies = this.#applies(scope, program);
    const row = this.#planOf(program) * this.#scopes.length * MAX_RULES;
    const rules: Rule[] = [];
    for (let slot = 0; slot < MAX_RULES; slot += 1) {
      if (!hasBit(applies, slot)) continue;
      const index = scope * MAX_RULES + slot;
      const flags = plan.flags[index] as number;
      const cost = RULE_NUMBERS[AT_COSTS + (plan.units[index] as number)] as number;
      const burst = plan.bursts[row + index] as number;
      const sum = (used[slot] as number) + cost;
      rules.push({
        index,
        slot,
        isDryRun: (flags & DRY_RUN) !== 0,
        countsViolation: (flags & COUNTS_VIOLATION) !== 0,
        rank: plan.ranks[index] as number,
        cost,
        burst,
        warnBelow: plan.warnBelow[row + index] as number,
        allows: sum <= burst,
        delay:
          cost > burst ? Infinity : rounded((sum - burst) / (plan.rates[row + index] as number)),
      });
    }
    return rules;
  }

  #allow(asked: Asked[], time: number): RuleAnswer | undefined {
    const full = asked.filter(({ scope, peer, rules }) => {
      const needsRecord = rules.some((rule) => rule.allows && rule.cost > 0);
      return needsRecord && !scope.isStored(peer) && !scope.hasRoom(time);
    });
    const refusing = full.find(({ rules }) =>
      rules.some((rule) => !rule.isDryRun && rule.cost > 0),
    );
    if (refusing !== undefined) {
      this.#totals.delayed += 1;
      refusing.scope.refusedNewcomers += 1;
      write({ [AT_DELAY]: 1, [AT_RULE]: -1, [AT_SCOPE]: refusing.scope.index });
      return RULE_NO_ROOM;
    }
    // Rules on dry run alone refuse nothing: what they take is not stored.
    for (const { scope } of full) scope.refusedNewcomers += 1;
    for (const { scope, peer, rules } of asked) {
      if (rules.some((rule) => rule.allows && rule.cost > 0)) scope.store(peer, time);
    }
    this.#countDryRun(asked);
    for (const { peer, rules } of asked) {
      take(
        peer,
        rules.filter(({ allows }) => allows),
      );
    }
    this.#totals.allowed += 1;
    return answerWarning(asked);
  }

  #refuse(asked: Asked[], time: number): RuleAnswer {
    const refusals = refusalsOf(asked);
    for (const { index } of refusals) count(this.#totals.refused, index);
    this.#countDryRun(asked);
    answerDelay(refusals);
    let longest: { seconds: number; scope: number; slot: number } | undefined;
    write({ [AT_BEGUN]: 0 });
    for (const { scope, peer, rules } of asked) {
      const violated = rules.filter(({ isDryRun, allows, countsViolation, cost }) => {
        return !isDryRun && !allows && countsViolation && cost > 0;
      });
      const isViolation = violated.length > 0 && !scope.isSingle;
      const charged = rules.filter(({ isDryRun, allows, cost }) => isDryRun && allows && cost > 0);
      if (!isViolation && charged.length === 0) continue;
      if (!scope.store(peer, time)) {
        scope.refusedNewcomers += 1;
        continue;
      }
      take(peer, charged);
      if (!isViolation) continue;
      const index = scope.index;
      const random = RULE_NUMBERS[AT_RANDOM + index] as number;
      const seconds = scope.addViolation(peer, random, time);
      if (seconds === undefined) continue;
      const { slot } = longestOf(violated);
      write({ [AT_BEGUN]: (RULE_NUMBERS[AT_BEGUN] as number) | (1 << index) });
      write({ [AT_BAN_SECONDS + index]: seconds, [AT_BAN_RULE + index]: slot });
      write({ [AT_VIOLATIONS + index]: peer.violations });
      if (longest === undefined || seconds > longest.seconds) {
        longest = { seconds, scope: index, slot };
      }
    }
    if (longest === undefined) {
      this.#totals.delayed += 1;
      return RULE_DELAYED;
    }
    write({ [AT_DELAY]: longest.seconds, [AT_SCOPE]: longest.scope });
    write({ [AT_RULE]: longest.scope * MAX_RULES + longest.slot });
    this.#totals.banned += 1;
    return RULE_BANNED;
  }

  #countDryRun(asked: Asked[]): void {
    for (const { index, isDryRun, allows } of rulesOf(asked)) {
      if (isDryRun && !allows) count(this.#totals.dryRunRefused, index);
    }
  }

  /** Writes the results of the longest ban in force; false if there is none. */
  #answerBan(keys: RuleKeys, mask: number, time: number): boolean {
    let longest = 0;
    for (const scope of this.#scopesOf(mask)) {
      const { banEnd } = scope.find(keys, time);
      if (!(time < banEnd && banEnd - time > longest)) continue;
      longest = banEnd - time;
      write({ [AT_DELAY]: longest, [AT_RULE]: -1, [AT_SCOPE]: scope.index, [AT_BEGUN]: 0 });
    }
    return longest > 0;
  }

  #peekAnswer(keys: RuleKeys, mask: number, program: number, time: number) {
    if (this.#answerBan(keys, mask, time)) return RULE_BANNED;
    const asked: Asked[] = [];
    for (const scope of this.#scopesOf(mask)) {
      const peer = copyOf(scope.find(keys, time));
      this.#rates.refill(scope.index, peer, this.#planOf(program), time);
      asked.push({ scope, peer, rules: this.#askRules(scope.index, peer, program) });
    }
    const refusals = refusalsOf(asked);
    if (refusals.length > 0) {
      answerDelay(refusals);
      return RULE_DELAYED;
    }
    for (const { peer, rules } of asked)
      take(
        peer,
        rules.filter((rule) => !rule.isDryRun),
      );
    return answerWarning(asked);
  }
}
