// RuleAsker makes requests: what the store is asked of each rule, and what this node gives up for it.

import type { Place } from '../../tables/table.js';
import { LEASED_SHARE } from '../store/limit.js';
import type { SharedRuleConfig } from './options.js';
import type { RuleBuckets } from './rule-buckets.js';
import type { CostlyRule } from './rule-failures.js';
import { type RuleId, type RuleJudge, scopeOf, slotOf } from './rule-judge.js';
import type { RuleLookup } from './rule-lookup.js';
import type { AskedRule, RuleQuestion, SpentRule } from './rule-request.js';
import type { RuleTables } from './rule-tables.js';

/** Checks for which tokens are leased ahead of use, for a key without a history. */
const FIRST_AHEAD = 10;

export class RuleAsker {
  readonly #config: SharedRuleConfig;
  readonly #nodeId: string;
  readonly #judge: RuleJudge;
  readonly #buckets: RuleBuckets;
  readonly #lookup: RuleLookup;

  constructor(
    config: SharedRuleConfig,
    nodeId: string,
    judge: RuleJudge,
    buckets: RuleBuckets,
    lookup: RuleLookup,
  ) {
    this.#config = config;
    this.#nodeId = nodeId;
    this.#judge = judge;
    this.#buckets = buckets;
    this.#lookup = lookup;
  }

  /** What is asked of a rule that is not covered. Undefined if there is no room for the key. */
  uncovered(
    tables: RuleTables,
    rule: RuleId,
    cost: number,
    question: RuleQuestion,
    isAwaited: boolean,
    now: number,
  ): AskedRule | undefined {
    const scope = scopeOf(rule);
    const slot = slotOf(rule);
    const id = question.ids[scope] ?? '';
    const place = tables.findOrInsert(scope, id, now);
    if (place === undefined) return undefined;
    const table = tables.of(scope);
    const most = this.#tokensAhead(tables, rule, place, cost, question.program, now);
    const known = table.leaseId(place, slot);
    // What is left is too little for this check, and goes back, so that the store decides by all that there is.
    const left = table.take(place, slot, now);
    const own = isAwaited ? { cost, least: 0 } : { cost: 0, least: cost };
    return { rule, scope, slot, id, known, left, isReturned: true, most, ...own };
  }

  /** Takes a cost from a lease, until the store has answered about the other rules. */
  spend(tables: RuleTables, rule: RuleId, cost: number, question: RuleQuestion): SpentRule {
    const scope = scopeOf(rule);
    const slot = slotOf(rule);
    const id = question.ids[scope] ?? '';
    const table = tables.of(scope);
    // Another rule of the check may have moved the record.
    const place = table.find(id) as Place;
    table.spend(place, slot, cost);
    const generation = table.generation(place, slot);
    return { scope, slot, id, rule, cost, generation, ends: table.ends(place, slot) };
  }

  /** Gives it back, unless the store has been told that it is spent. */
  giveBack(tables: RuleTables, { scope, slot, id, cost, generation }: SpentRule): void {
    const table = tables.of(scope);
    const place = table.find(id);
    if (place !== undefined) table.unspend(place, slot, cost, generation);
  }

  /** What is asked of all rules in mode `strict`, without leases. */
  all({ ids, mask, program }: RuleQuestion): AskedRule[] {
    const lookup = this.#lookup;
    lookup.collect(mask, program);
    const rules: AskedRule[] = [];
    for (let n = 0; n < lookup.count; n += 1) {
      const rule = lookup.rules[n] as RuleId;
      const scope = scopeOf(rule);
      const asked = { rule, scope, slot: slotOf(rule), id: ids[scope] ?? '' };
      const none = { least: 0, most: 0, known: 0, left: 0, isReturned: true };
      rules.push({ ...asked, ...none, cost: this.#judge.costOf(rule) });
    }
    return rules;
  }

  /** What is asked of a rule that is covered, to lease more. Undefined if enough is left. */
  renewal(
    tables: RuleTables,
    rule: RuleId,
    cost: number,
    question: RuleQuestion,
    now: number,
  ): AskedRule | undefined {
    const scope = scopeOf(rule);
    const slot = slotOf(rule);
    const id = question.ids[scope] ?? '';
    const table = tables.of(scope);
    const place = table.find(id);
    if (place === undefined || !table.needsRenewal(place, slot)) return undefined;
    const most = this.#tokensAhead(tables, rule, place, cost, question.program, now);
    const known = table.leaseId(place, slot);
    const left = table.tell(place, slot, now);
    const own = { known, left, isReturned: false, cost: 0, least: 0, most };
    return { rule, scope, slot, id, ...own };
  }

  /** Keys and arguments of the script `check`. */
  call(
    question: RuleQuestion,
    rules: readonly AskedRule[],
    leaseId: number,
  ): { keys: string[]; args: string[] } {
    const { leaseSeconds, shortLeaseSeconds } = this.#config;
    const lifetimes = [String(leaseSeconds), String(shortLeaseSeconds)];
    const args = [this.#nodeId, String(leaseId), ...lifetimes];
    const keys: string[] = [];
    for (const asked of rules) {
      keys.push(this.#buckets.key(asked.rule, asked.id));
      args.push(this.#buckets.argument(asked, question.program));
    }
    return { keys, args };
  }

  /** Keys and arguments of the script `settle`, to take costs (sign 1) or to give them back (sign -1). */
  settlement(
    rules: readonly CostlyRule[],
    program: number,
    tables: RuleTables | undefined,
    sign: 1 | -1,
    now: number,
  ): { keys: string[]; args: string[] } {
    const args = [this.#nodeId, String(this.#config.leaseSeconds)];
    for (const { rule, id, cost } of rules) {
      const table = tables?.of(scopeOf(rule));
      const place = table?.find(id);
      let lease = '0 0';
      if (table !== undefined && place !== undefined) {
        const slot = slotOf(rule);
        lease = `${table.leaseId(place, slot)} ${table.tell(place, slot, now)}`;
      }
      args.push(`${this.#buckets.numbers(rule, program)} ${lease} ${sign * cost}`);
    }
    return { keys: rules.map(({ rule, id }) => this.#buckets.key(rule, id)), args };
  }

  /** Twice the last grant if it was used up within half a lease, the same if within a lease, otherwise half of it. */
  #tokensAhead(
    tables: RuleTables,
    rule: RuleId,
    place: Place,
    cost: number,
    program: number,
    now: number,
  ): number {
    const scope = scopeOf(rule);
    const slot = slotOf(rule);
    const table = tables.of(scope);
    if (!table.isKnown(place, slot)) return 0;
    const { leaseSeconds } = this.#config;
    const last = table.lastGrant(place, slot);
    const secondsLeft = table.ends(place, slot) - now;
    const ahead = secondsLeft > leaseSeconds / 2 ? last * 2 : secondsLeft > 0 ? last : last / 2;
    const least = FIRST_AHEAD * Math.max(1, cost);
    const burst = this.#buckets.burst(rule, program);
    return Math.floor(Math.min(Math.max(ahead, least), burst * LEASED_SHARE));
  }
}
