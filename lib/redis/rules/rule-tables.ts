// The leases of a node by scope: room for keys, and the way back to the store.

import { MAX_RULES } from '../../engine/rules.js';
import type { RuleBook } from '../../rules/compile.js';
import { MOST_KEYS, type Place } from '../../tables/table.js';
import type { SharedRuleConfig } from './options.js';
import type { RuleBuckets } from './rule-buckets.js';
import type { RuleId } from './rule-judge.js';
import { RuleLeases } from './rule-leases.js';
import type { RuleStore } from './rule-store.js';

/** Keys that an eviction looks at. */
const EVICTION_TRIES = 8;
/** Leases that one call returns when the limiter closes, and calls that are made at once. */
const BATCH_SIZE = 200;
const BATCHES_AT_ONCE = 16;

/** A lease that goes back: the store's key, and the argument of the script `release`. */
type LeaseReturn = readonly [key: string, argument: string];

/** The part of a limiter that its tables need. */
export interface TablesOwner {
  /** Whether a request for a key is in flight: then its record stays. */
  isBusy(scope: number, id: string): boolean;
  now(): number;
}

export class RuleTables {
  /** Keys evicted by scope because there were `maxPeers`. Their leases returned to the store. */
  readonly evictions: number[];
  readonly #config: SharedRuleConfig;
  readonly #store: RuleStore;
  readonly #buckets: RuleBuckets;
  readonly #tables: RuleLeases[];
  /** For each scope the place that a sweep or an eviction looks at next. */
  readonly #next: number[];
  readonly #owner: TablesOwner;
  #lastLeaseId = 0;
  /** Returns of leases that are in flight. */
  readonly #returns = new Set<Promise<unknown>>();

  constructor(
    config: SharedRuleConfig,
    store: RuleStore,
    buckets: RuleBuckets,
    owner: TablesOwner,
  ) {
    this.#config = config;
    this.#store = store;
    this.#buckets = buckets;
    this.#owner = owner;
    this.#tables = Array.from(config.book.plan.slots, (slots) => new RuleLeases(slots));
    this.#next = this.#tables.map(() => 0);
    this.evictions = this.#tables.map(() => 0);
  }

  of(scope: number): RuleLeases {
    return this.#tables[scope] as RuleLeases;
  }

  /** The number of the next lease. */
  nextLeaseId(): number {
    this.#lastLeaseId += 1;
    return this.#lastLeaseId;
  }

  /**
   * Makes room for the slots of an update, and forgets the leases of rules that have got another slot's place. What is on
   * lease of rules with other numbers goes back with the next check of its key.
   */
  use(book: RuleBook, before: RuleBook): void {
    const { plan } = book;
    const now = this.#owner.now();
    for (const [scope, table] of this.#tables.entries()) {
      const slots = plan.slots[scope] as number;
      let current = table;
      if (slots > table.slots) {
        current = new RuleLeases(slots);
        current.copyChanges(table);
        for (let place = 0; place < table.size; place += 1) current.copy(table, place);
      }
      for (let slot = 0; slot < slots; slot += 1) {
        if (hasOtherNumbers(scope * MAX_RULES + slot, book, before)) {
          current.ruleChanged(slot, this.#lastLeaseId + 1, now);
        }
        if ((((plan.added[scope] as number) >> slot) & 1) === 0) continue;
        for (let place = 0; place < current.size; place += 1) current.clearSlot(place, slot);
      }
      this.#tables[scope] = current;
    }
  }

  /** The place of a key; undefined if it has none and there is no room. Looks at two others for deletion. */
  findOrInsert(scope: number, id: string, now: number): Place | undefined {
    const known = this.of(scope).find(id);
    if (known !== undefined) return known;
    this.#sweep(scope, now);
    this.#sweep(scope, now);
    const most = Math.min(this.#config.maxPeers, MOST_KEYS);
    if (this.of(scope).size >= most && !this.#evict(scope)) return undefined;
    return this.of(scope).insert(id);
  }

  /** Deletes the record of a key, and returns its leases to the store. */
  release(scope: number, id: string): void {
    const returns = this.#take(scope, id);
    if (returns.length > 0) this.#send(returns);
  }

  /** Returns all leases. */
  async close(): Promise<void> {
    const batch: LeaseReturn[] = [];
    for (const [scope, table] of this.#tables.entries()) {
      while (table.size > 0) {
        batch.push(...this.#take(scope, table.keyAt(table.size - 1)));
        if (batch.length >= BATCH_SIZE) this.#send(batch.splice(0));
        if (this.#returns.size >= BATCHES_AT_ONCE) await Promise.all(this.#returns);
      }
    }
    if (batch.length > 0) this.#send(batch);
    await Promise.all(this.#returns);
  }

  /** Unspent tokens. O(keys x rules). */
  leasedTokens(): number {
    const now = this.#owner.now();
    return this.#tables.reduce((sum, table) => sum + table.total(now), 0);
  }

  #take(scope: number, id: string): LeaseReturn[] {
    const table = this.of(scope);
    const place = table.find(id);
    if (place === undefined) return [];
    const now = this.#owner.now();
    const returns: LeaseReturn[] = [];
    for (let slot = 0; slot < table.slots; slot += 1) {
      const left = table.left(place, slot, now);
      const rule = scope * MAX_RULES + slot;
      if (left === 0 || this.#buckets.nameOf(rule) === undefined) continue;
      const numbers = this.#buckets.numbersOfPlan(rule, table.plan(place, slot));
      returns.push([
        this.#buckets.key(rule, id),
        `${numbers} ${table.leaseId(place, slot)} ${left}`,
      ]);
    }
    table.delete(id);
    return this.#store.state === 'down' ? [] : returns;
  }

  #send(returns: readonly LeaseReturn[]): void {
    const keys = returns.map(([key]) => key);
    const args = [this.#store.nodeId, String(this.#config.leaseSeconds)];
    for (const [, argument] of returns) args.push(argument);
    // If the call fails, the store treats the tokens as spent until the lease ends.
    const returned = this.#store.run('release', keys, args).catch(() => {});
    this.#returns.add(returned);
    void returned.then(() => this.#returns.delete(returned));
  }

  #sweep(scope: number, now: number): void {
    const id = this.#nextId(scope);
    if (id === undefined || this.#owner.isBusy(scope, id)) return;
    const table = this.of(scope);
    const place = table.find(id) as Place;
    if (table.isIdle(place, this.#config.leaseSeconds, now)) table.delete(id);
  }

  #evict(scope: number): boolean {
    for (let tries = 0; tries < EVICTION_TRIES; tries += 1) {
      const id = this.#nextId(scope);
      if (id === undefined || this.#owner.isBusy(scope, id)) continue;
      (this.evictions[scope] as number) += 1;
      this.release(scope, id);
      return true;
    }
    return false;
  }

  #nextId(scope: number): string | undefined {
    const table = this.of(scope);
    if (table.size === 0) return undefined;
    const place = (this.#next[scope] as number) < table.size ? (this.#next[scope] as number) : 0;
    this.#next[scope] = place + 1;
    return table.keyAt(place);
  }
}

/** Whether an update gives a rule other numbers in any plan. Peers of a plan that is gone get the base plan. */
function hasOtherNumbers(rule: RuleId, book: RuleBook, before: RuleBook): boolean {
  const perPlan = book.plan.ranks.length;
  const plans: [from: number, to: number][] = [[0, 0]];
  for (const [name, from] of before.planIndexes)
    plans.push([from, book.planIndexes.get(name) ?? 0]);
  const differs = (numbers: 'rates' | 'bursts') =>
    plans.some(([from, to]) => {
      const old = before.plan[numbers][from * perPlan + rule];
      return old !== book.plan[numbers][to * perPlan + rule];
    });
  return differs('rates') || differs('bursts');
}
