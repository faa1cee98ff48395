// What a node keeps of its peers: leased tokens, refusals until the time when they end, violations. Tokens that a
// covered check needs are in the engine's lease table; everything else is doubles beside a Map. Knows nothing of the
// store.

import { detachString } from '../../common/strings.js';
import type { LeaseTable } from '../../engine/engine.js';
import { NEVER } from '../../tables/arithmetic.js';
import { type Place, Table } from '../../tables/table.js';

/** The index of a peer's record, below `LeaseRecords.size`. A deletion may move another record there. */
export type RecordIndex = Place;

// The doubles of a record. RESERVE and LAST_GRANT are tokens, ENDS and REFUSED_UNTIL are times.
const RESERVE = 0;
const ENDS = 1;
const LAST_GRANT = 2;
const LEASE_ID = 3;
const REFUSED_UNTIL = 4;
const REFUSED_COST = 5;
const VIOLATIONS = 6;
const REPORTED = 7;
const DOUBLES = 8;

/** As a reserve: the tokens may not be spent until the store has confirmed the lease. */
const SUSPENDED = -1;

/** The share of a grant that is kept in reserve: once the rest is spent, the next lease is requested. */
const RESERVE_SHARE = 1 / 4;

class Records extends Table {
  constructor() {
    super(DOUBLES);
  }

  /** Adds an empty record. @throws `ERR_LIMITER_MEMORY` */
  insert(key: string): RecordIndex {
    const index = this.add(detachString(key), undefined);
    this.doubles.fill(0, index * DOUBLES, (index + 1) * DOUBLES);
    this.set(index, ENDS, NEVER);
    this.set(index, REFUSED_UNTIL, NEVER);
    return index;
  }

  get(index: RecordIndex, field: number): number {
    return this.doubles[index * DOUBLES + field] as number;
  }

  set(index: RecordIndex, field: number, value: number): void {
    this.doubles[index * DOUBLES + field] = value;
  }
}

export class LeaseRecords {
  /** The tokens that may be spent before the reserve, for exactly the peers in `#records`. */
  readonly #table: LeaseTable;
  readonly #records = new Records();

  constructor(table: LeaseTable) {
    this.#table = table;
  }

  get size(): number {
    return this.#records.size;
  }

  find(key: string): RecordIndex | undefined {
    return this.#records.find(key);
  }

  keyAt(index: RecordIndex): string {
    return this.#records.keyAt(index);
  }

  /** Adds a peer without tokens. @throws `ERR_LIMITER_MEMORY`; then nothing has changed. */
  insert(key: string): RecordIndex {
    const index = this.#records.insert(key);
    try {
      this.#table.set(key, 0, NEVER);
    } catch (error) {
      this.#records.delete(key);
      throw error;
    }
    return index;
  }

  delete(key: string): void {
    this.#table.delete(key);
    this.#records.delete(key);
  }

  /** The time of the clock that `spend` reads if it gets no time. */
  now(): number {
    return this.#table.now();
  }

  /** Takes `cost` from the lease of a peer, without its reserve. False if that is impossible or the peer is unknown. */
  spend(key: string, cost: number, now?: number): boolean {
    return this.#table.spend(key, cost, now) === undefined;
  }

  /** Takes `cost` with the help of the reserve. The rest of the reserve then becomes spendable. */
  spendReserve(index: RecordIndex, cost: number, now: number): boolean {
    const reserve = this.#reserve(index);
    if (reserve === 0 || !(now < this.ends(index))) return false;
    const left = this.#spendable(index) - cost + reserve;
    if (!(left >= 0)) return false;
    this.#setTokens(index, left, 0);
    return true;
  }

  /** Unspent tokens; 0 if the lease has ended. */
  left(index: RecordIndex, now: number): number {
    return now < this.ends(index) ? this.#spendable(index) + this.#reserve(index) : 0;
  }

  /** Discards what is left of a lease that has ended. */
  discardIfEnded(index: RecordIndex, now: number): void {
    if (!(now < this.ends(index))) this.#setTokens(index, 0, 0);
  }

  /** The number of the last lease; 0 if there was none. */
  leaseId(index: RecordIndex): number {
    return this.#get(index, LEASE_ID);
  }

  /** The tokens granted with the last lease. */
  lastGrant(index: RecordIndex): number {
    return this.#get(index, LAST_GRANT);
  }

  /** When the last lease ends. */
  ends(index: RecordIndex): number {
    return this.#get(index, ENDS);
  }

  /** Adds a grant to what is left, or replaces what is left if the store did not carry it over. Ends a refusal. */
  grant(
    index: RecordIndex,
    granted: number,
    isCarried: boolean,
    ends: number,
    leaseId: number,
  ): void {
    const before = isCarried ? this.#spendable(index) + this.#reserve(index) : 0;
    const reserve = Math.floor(granted * RESERVE_SHARE);
    this.#setTokens(index, before + granted - reserve, reserve, ends);
    this.#set(index, LAST_GRANT, granted);
    this.#set(index, LEASE_ID, leaseId);
    this.#set(index, REFUSED_UNTIL, NEVER);
  }

  /** Remembers that costs of at least `cost` are refused until a time. */
  refuse(index: RecordIndex, cost: number, until: number): void {
    this.#set(index, REFUSED_COST, cost);
    this.#set(index, REFUSED_UNTIL, until);
  }

  /** Ends a refusal, since the limit was changed. */
  endRefusal(index: RecordIndex): void {
    this.#set(index, REFUSED_UNTIL, NEVER);
  }

  /** Keeps only a share of the lease. */
  shrink(index: RecordIndex, share: number): void {
    const isSuspended = this.#get(index, RESERVE) === SUSPENDED;
    this.#setTokens(index, this.#spendable(index) * share, this.#reserve(index) * share);
    if (isSuspended) this.suspend(index);
  }

  /** Keeps the lease, but makes its tokens spendable only after `resume` or another grant. */
  suspend(index: RecordIndex): void {
    const all = this.#spendable(index) + this.#reserve(index);
    this.#set(index, RESERVE, SUSPENDED);
    this.#table.set(this.keyAt(index), all, NEVER);
  }

  /** Makes a suspended lease spendable. */
  resume(index: RecordIndex): void {
    if (this.#get(index, RESERVE) === SUSPENDED) this.#setTokens(index, this.#spendable(index), 0);
  }

  /** Seconds that the remembered refusal still holds for `cost`; 0 if there is none. */
  refusedSeconds(index: RecordIndex, cost: number, now: number): number {
    const seconds = this.#get(index, REFUSED_UNTIL) - now;
    return seconds > 0 && cost >= this.#get(index, REFUSED_COST) ? seconds : 0;
  }

  refusedCost(index: RecordIndex): number {
    return this.#get(index, REFUSED_COST);
  }

  /** Counts a violation and returns the peer's new total. */
  addViolation(index: RecordIndex): number {
    const violations = this.#get(index, VIOLATIONS) + 1;
    this.#set(index, VIOLATIONS, violations);
    return violations;
  }

  /** Violations that have not been reported to the store. */
  unreported(index: RecordIndex): number {
    return this.#get(index, VIOLATIONS) - this.#get(index, REPORTED);
  }

  /**
   * Marks all violations as reported and returns how many were not. If the report is lost, so are they: counting them
   * again after a lost reply could count them twice.
   */
  takeUnreported(index: RecordIndex): number {
    const violations = this.unreported(index);
    this.#set(index, REPORTED, this.#get(index, VIOLATIONS));
    return violations;
  }

  /** Takes over the store's count of violations and keeps the unreported ones on top of it. */
  setReported(index: RecordIndex, violations: number): void {
    const unreported = this.unreported(index);
    this.#set(index, REPORTED, violations);
    this.#set(index, VIOLATIONS, violations + unreported);
  }

  /** Whether the record can be deleted without losing anything. */
  isIdle(index: RecordIndex, now: number): boolean {
    return (
      this.left(index, now) === 0 &&
      this.#get(index, REFUSED_UNTIL) <= now &&
      this.unreported(index) === 0
    );
  }

  /** Unspent tokens of all peers. O(number of peers). */
  total(now: number): number {
    let total = this.#table.total(now);
    for (let index = 0; index < this.size; index += 1) {
      if (!(now < this.ends(index))) continue;
      const reserve = this.#get(index, RESERVE);
      total += reserve === SUSPENDED ? this.#spendable(index) : reserve;
    }
    return total;
  }

  #spendable(index: RecordIndex): number {
    return this.#table.tokens(this.keyAt(index));
  }

  #reserve(index: RecordIndex): number {
    return Math.max(0, this.#get(index, RESERVE));
  }

  #setTokens(
    index: RecordIndex,
    spendable: number,
    reserve: number,
    ends = this.ends(index),
  ): void {
    this.#table.set(this.keyAt(index), spendable, ends);
    this.#set(index, RESERVE, reserve);
    this.#set(index, ENDS, ends);
  }

  #get(index: RecordIndex, field: number): number {
    return this.#records.get(index, field);
  }

  #set(index: RecordIndex, field: number, value: number): void {
    this.#records.set(index, field, value);
  }
}
