// RulePeeks reads the buckets of a check without changing them: what the store has counted as used, minus what this node has
// on lease and has not spent.

import { MAX_RULES, type RuleAnswer } from '../../engine/rules.js';
import { invalidReplyError, isNumeric } from '../store/replies.js';
import type { RuleBuckets } from './rule-buckets.js';
import { type RuleId, type RuleJudge, scopeOf, slotOf } from './rule-judge.js';
import type { RuleLookup } from './rule-lookup.js';
import { type AskedRule, type RuleQuestion, type RuleRequest, writeCosts } from './rule-request.js';
import type { RuleStore } from './rule-store.js';
import type { RuleTables } from './rule-tables.js';

export class RulePeeks {
  readonly #store: RuleStore;
  readonly #judge: RuleJudge;
  readonly #buckets: RuleBuckets;
  readonly #tables: RuleTables | undefined;
  readonly #lookup: RuleLookup;
  readonly #inFlight: ReadonlySet<RuleRequest>;
  readonly #now: () => number;

  /** `inFlight`: the requests to the store without a reply, in the order in which they were made. */
  constructor(parts: {
    store: RuleStore;
    judge: RuleJudge;
    buckets: RuleBuckets;
    tables: RuleTables | undefined;
    lookup: RuleLookup;
    inFlight: ReadonlySet<RuleRequest>;
    now: () => number;
  }) {
    this.#store = parts.store;
    this.#judge = parts.judge;
    this.#buckets = parts.buckets;
    this.#tables = parts.tables;
    this.#lookup = parts.lookup;
    this.#inFlight = parts.inFlight;
    this.#now = parts.now;
  }

  /** Resolves with the used tokens of all rules of a check, by id. @throws (rejects with) `ERR_LIMITER_STORE` */
  async read(question: RuleQuestion): Promise<Float64Array> {
    const { ids, mask, program } = question;
    this.#lookup.collect(mask, program);
    const rules = Array.from(this.#lookup.rules.subarray(0, this.#lookup.count));
    const idOf = (rule: RuleId) => ids[scopeOf(rule)] ?? '';
    const used = new Float64Array(this.#buckets.scopes * MAX_RULES);
    if (rules.length === 0) return used;
    const keys = rules.map((rule) => this.#buckets.key(rule, idOf(rule)));
    const numbers = rules.map((rule) => this.#buckets.numbers(rule, program));
    const reply = await this.#store.run('peek', keys, [this.#store.nodeId, ...numbers]);
    const words = reply.split(' ');
    if (words.length !== 3 * rules.length || !words.every(isNumeric)) throw invalidReplyError();
    const isCurrent = question.plan === this.#judge.plan;
    for (const [at, rule] of rules.entries()) {
      const [total, leaseId, amount] = words.slice(3 * at).map(Number) as [number, number, number];
      const unspent = isCurrent ? this.#unspent(rule, idOf(rule), leaseId, amount) : 0;
      used[rule] = total - unspent;
    }
    return used;
  }

  /** The answer of a check of which the used tokens are known. Counts nothing. */
  judge({ mask, program, costs }: RuleQuestion, used: Float64Array): RuleAnswer | undefined {
    writeCosts(costs);
    this.#judge.begin(mask, program);
    this.#lookup.collect(mask, program);
    for (let n = 0; n < this.#lookup.count; n += 1) {
      const rule = this.#lookup.rules[n] as RuleId;
      this.#judge.setUsed(rule, used[rule] as number);
    }
    return this.#judge.conclude(true);
  }

  /** What this node has not spent of its lease, which has this number and these tokens in the store. */
  #unspent(rule: RuleId, id: string, leaseId: number, amount: number): number {
    const table = this.#tables?.of(scopeOf(rule));
    const place = table?.find(id);
    if (table === undefined || place === undefined || amount === 0) return 0;
    const slot = slotOf(rule);
    const left = table.left(place, slot, this.#now());
    if (leaseId === table.leaseId(place, slot)) return Math.min(left, amount);
    // Otherwise it is one whose grant has not arrived. The first request after the known lease has told the store what was left
    // then; what has been spent since, and what checks have cost, is still part of the lease.
    const asked = this.#askedUntil(leaseId, rule, id);
    const [first] = asked;
    if (first === undefined) return 0;
    const told = first.isReturned ? 0 : first.left;
    const costs = asked.reduce((sum, { cost }) => sum + cost, 0);
    return Math.max(0, Math.min(amount, amount - costs - Math.max(0, told - left)));
  }

  /** What requests in flight ask of a rule, up to that of a lease; none if that is not in flight. */
  #askedUntil(leaseId: number, rule: RuleId, id: string): AskedRule[] {
    const found: AskedRule[] = [];
    for (const request of this.#inFlight) {
      const asked = request.rules.find((one) => one.rule === rule && one.id === id);
      if (asked === undefined || request.leaseId > leaseId) continue;
      found.push(asked);
      if (request.leaseId === leaseId) return found;
    }
    return [];
  }
}
