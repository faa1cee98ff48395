// What a node keeps of the keys of one scope: for each rule the tokens on lease, the refusal that the store has given last,
// and how many tokens were used then. Knows nothing of the store.

import { detachString } from '../../common/strings.js';
import { NEVER } from '../../tables/arithmetic.js';
import { type Place, Table } from '../../tables/table.js';

// The doubles of a rule in a record. TOKENS, LAST_GRANT, REFUSED_COST and USED are tokens; ENDS, REFUSED_UNTIL and USED_AT
// are times; PLAN is the index of the plan that asked last, GENERATION changes with each report to
// the store of what is left, and REPORTED is the number of the lease that was reported last.
const TOKENS = 0;
const ENDS = 1;
const LAST_GRANT = 2;
const LEASE_ID = 3;
const REFUSED_UNTIL = 4;
const REFUSED_COST = 5;
const USED = 6;
const USED_AT = 7;
const PLAN = 8;
const GENERATION = 9;
const REPORTED = 10;
const DOUBLES = 11;

/** Once less than this share of a grant is left, the next lease is requested. */
const RESERVE_SHARE = 1 / 4;
/** Seconds for which a refusal is remembered, at most: other nodes may return tokens meanwhile. */
const REFUSAL_SECONDS = 1;

/** A grant of the store. */
export interface Grant {
  readonly tokens: number;
  /** Whether what was left of the previous lease is part of the new one. */
  readonly isCarried: boolean;
  readonly ends: number;
  readonly leaseId: number;
}

export class RuleLeases extends Table {
  #slots: number;
  /** For each slot the number of the first lease, and the time, since the numbers of its rule are what they are. */
  readonly #firstLeases: Float64Array;
  readonly #changedAt: Float64Array;

  constructor(slots: number) {
    super(Math.max(1, slots) * DOUBLES);
    this.#slots = Math.max(1, slots);
    this.#firstLeases = new Float64Array(this.#slots);
    this.#changedAt = new Float64Array(this.#slots).fill(NEVER);
  }

  /** The number of rules of which a record has room. */
  get slots(): number {
    return this.#slots;
  }

  /** Adds a record without leases. @throws `ERR_LIMITER_MEMORY` */
  insert(key: string): Place {
    const place = this.add(detachString(key), undefined);
    for (let slot = 0; slot < this.#slots; slot += 1) this.clearSlot(place, slot);
    return place;
  }

  /** Copies a record of another table with fewer slots. @throws `ERR_LIMITER_MEMORY` */
  copy(from: RuleLeases, place: Place): void {
    const to = this.insert(from.keyAt(place));
    const record = from.doubles.subarray(place * from.width, (place + 1) * from.width);
    this.doubles.set(record, to * this.width);
  }

  /** Copies since when rules are what they are, of another table with fewer slots. */
  copyChanges(from: RuleLeases): void {
    this.#firstLeases.set(from.#firstLeases);
    this.#changedAt.set(from.#changedAt);
  }

  /**
   * The numbers of a rule have changed: what is on lease before the lease `firstLease` can only go back, and refusals from
   * before `now` are forgotten.
   */
  ruleChanged(slot: number, firstLease: number, now: number): void {
    this.#firstLeases[slot] = firstLease;
    this.#changedAt[slot] = now;
  }

  /** Forgets what is known of a rule. */
  clearSlot(place: Place, slot: number): void {
    const first = this.#first(place, slot);
    this.doubles.fill(0, first, first + DOUBLES);
    for (const time of [ENDS, REFUSED_UNTIL, USED_AT]) this.doubles[first + time] = NEVER;
  }

  /** Unspent tokens; 0 if the lease has ended. */
  left(place: Place, slot: number, now: number): number {
    const first = this.#first(place, slot);
    const isOpen = now < (this.doubles[first + ENDS] as number);
    return isOpen ? (this.doubles[first + TOKENS] as number) : 0;
  }

  /** Unspent tokens that may be spent: 0 too if the lease is from before a change of the rule. */
  spendable(place: Place, slot: number, now: number): number {
    const isCurrent = this.leaseId(place, slot) >= (this.#firstLeases[slot] as number);
    return isCurrent ? this.left(place, slot, now) : 0;
  }

  /** The number of the last lease; 0 if there was none. */
  leaseId(place: Place, slot: number): number {
    return this.doubles[this.#first(place, slot) + LEASE_ID] as number;
  }

  lastGrant(place: Place, slot: number): number {
    return this.doubles[this.#first(place, slot) + LAST_GRANT] as number;
  }

  /** When the last lease ends. */
  ends(place: Place, slot: number): number {
    return this.doubles[this.#first(place, slot) + ENDS] as number;
  }

  /** Whether the store has answered a request for this rule. */
  isKnown(place: Place, slot: number): boolean {
    return this.doubles[this.#first(place, slot) + USED_AT] !== NEVER;
  }

  /** Takes tokens that `spendable` has returned. True if so few are left that the next lease should be requested. */
  spend(place: Place, slot: number, cost: number): boolean {
    (this.doubles[this.#first(place, slot) + TOKENS] as number) -= cost;
    return this.needsRenewal(place, slot);
  }

  needsRenewal(place: Place, slot: number): boolean {
    const first = this.#first(place, slot);
    const least = (this.doubles[first + LAST_GRANT] as number) * RESERVE_SHARE;
    return (this.doubles[first + TOKENS] as number) < least;
  }

  /** Changes with each report of what is left, and each grant: the store then knows of everything spent before. */
  generation(place: Place, slot: number): number {
    return this.doubles[this.#first(place, slot) + GENERATION] as number;
  }

  /** Gives tokens back that a check has taken and then not needed, if the generation is still that of then. */
  unspend(place: Place, slot: number, cost: number, generation: number): void {
    const first = this.#first(place, slot);
    if (this.doubles[first + GENERATION] !== generation) return;
    (this.doubles[first + TOKENS] as number) += cost;
  }

  /** Returns what is left, to tell the store. */
  tell(place: Place, slot: number, now: number): number {
    const first = this.#first(place, slot);
    (this.doubles[first + GENERATION] as number) += 1;
    this.doubles[first + REPORTED] = this.doubles[first + LEASE_ID] as number;
    return this.left(place, slot, now);
  }

  /** Whether the store has been told what is left of a lease, or of one after it. */
  isReported(place: Place, slot: number, leaseId: number): boolean {
    return leaseId <= (this.doubles[this.#first(place, slot) + REPORTED] as number);
  }

  /** Returns what is left, and keeps nothing: it goes back to the store. */
  take(place: Place, slot: number, now: number): number {
    const left = this.tell(place, slot, now);
    this.doubles[this.#first(place, slot) + TOKENS] = 0;
    return left;
  }

  /** The index of the plan that asked last. */
  plan(place: Place, slot: number): number {
    return this.doubles[this.#first(place, slot) + PLAN] as number;
  }

  /** Records what the store has said of a rule to a plan: used tokens, with those on lease. Forgets a refusal. */
  setUsed(place: Place, slot: number, used: number, plan: number, now: number): void {
    const first = this.#first(place, slot);
    this.doubles[first + PLAN] = plan;
    this.doubles[first + USED] = used;
    this.doubles[first + USED_AT] = now;
    this.doubles[first + REFUSED_UNTIL] = NEVER;
  }

  /** The store holds the cost of a check as a lease with this number. Nothing of it is left to spend. */
  hold(place: Place, slot: number, leaseId: number): void {
    const at = this.#first(place, slot) + LEASE_ID;
    this.doubles[at] = Math.max(leaseId, this.doubles[at] as number);
  }

  /** A grant of which the reply has been overtaken has gone back already, if a report has been made since. */
  grant(place: Place, slot: number, { tokens, isCarried, ends, leaseId }: Grant): void {
    if (this.isReported(place, slot, leaseId)) return;
    const first = this.#first(place, slot);
    const before = isCarried ? (this.doubles[first + TOKENS] as number) : 0;
    this.doubles[first + TOKENS] = before + tokens;
    this.doubles[first + ENDS] = ends;
    this.doubles[first + LAST_GRANT] = tokens;
    this.hold(place, slot, leaseId);
    (this.doubles[first + GENERATION] as number) += 1;
    this.doubles[first + REFUSED_UNTIL] = NEVER;
  }

  /** Remembers what `setUsed` has been told together with it: that costs of at least `cost` are refused until a time. */
  refuse(place: Place, slot: number, cost: number, until: number): void {
    const first = this.#first(place, slot);
    this.doubles[first + REFUSED_COST] = cost;
    this.doubles[first + REFUSED_UNTIL] = until;
  }

  /** Forgets a refusal. */
  forgive(place: Place, slot: number): void {
    this.doubles[this.#first(place, slot) + REFUSED_UNTIL] = NEVER;
  }

  /** Seconds for which a cost is refused to a plan, at its rate; 0 if no refusal is remembered. */
  refusedSeconds(
    place: Place,
    slot: number,
    cost: number,
    { plan, rate }: { plan: number; rate: number },
    now: number,
  ): number {
    const first = this.#first(place, slot);
    if (this.doubles[first + PLAN] !== plan) return 0;
    const seconds = (this.doubles[first + REFUSED_UNTIL] as number) - now;
    const more = cost - (this.doubles[first + REFUSED_COST] as number);
    const usedAt = this.doubles[first + USED_AT] as number;
    if (now - usedAt > REFUSAL_SECONDS || usedAt < (this.#changedAt[slot] as number)) return 0;
    return seconds > 0 && more >= 0 ? seconds + more / rate : 0;
  }

  /** The tokens that are used now, as far as this node knows, without those that it has on lease. */
  estimatedUsed(place: Place, slot: number, rate: number, now: number): number {
    const first = this.#first(place, slot);
    const left = this.left(place, slot, now);
    const seconds = Math.max(0, now - (this.doubles[first + USED_AT] as number));
    return Math.max(left, (this.doubles[first + USED] as number) - seconds * rate) - left;
  }

  /** Whether the record can be deleted without losing a lease, or that its key was here lately. */
  isIdle(place: Place, leaseSeconds: number, now: number): boolean {
    for (let slot = 0; slot < this.#slots; slot += 1) {
      const first = this.#first(place, slot);
      if (this.left(place, slot, now) > 0) return false;
      if (now - (this.doubles[first + USED_AT] as number) < leaseSeconds) return false;
    }
    return true;
  }

  /** Unspent tokens of all keys and rules. O(keys x rules). */
  total(now: number): number {
    let total = 0;
    for (let place = 0; place < this.size; place += 1) {
      for (let slot = 0; slot < this.#slots; slot += 1) total += this.left(place, slot, now);
    }
    return total;
  }

  #first(place: Place, slot: number): number {
    return place * this.width + slot * DOUBLES;
  }
}
