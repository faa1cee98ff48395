// What a node holds of its peers: leased tokens, and refusals until the time they name. What a check that is
// covered touches lies in the engine, the rest in doubles beside a Map. Knows no store.

import type { LeaseTable } from '../../engine/engine.js';
import { NEVER } from '../../engine/js/arithmetic.js';
import { type Place, Table } from '../../engine/js/table.js';
import { copyOf } from '../../text.js';

export type { Place };

// A peer's doubles: tokens set apart, when they are over, ...
const RESERVE = 0;
const UNTIL = 1;
const GRANTED = 2;
const LEASE = 3;
const REFUSED_UNTIL = 4;
const REFUSED_COST = 5;
const VIOLATIONS = 6;
const REPORTED = 7;
const DOUBLES = 8;

/** So much of a lease is set apart: when the rest is spent it is time for more. */
const RESERVED = 1 / 4;

class Records extends Table {
  constructor() {
    super(DOUBLES);
  }

  /** Of a peer that holds nothing. @throws `ERR_LIMITER_MEMORY` */
  insert(key: string): Place {
    const place = this.add(copyOf(key), undefined);
    this.doubles.fill(0, place * DOUBLES, (place + 1) * DOUBLES);
    this.set(place, UNTIL, NEVER);
    this.set(place, REFUSED_UNTIL, NEVER);
    return place;
  }

  get(place: Place, field: number): number {
    return this.doubles[place * DOUBLES + field] as number;
  }

  set(place: Place, field: number, value: number): void {
    this.doubles[place * DOUBLES + field] = value;
  }
}

export class Leases {
  /** What may be spent before the reserve is touched: of every peer in `records`, and of no other. */
  readonly #table: LeaseTable;
  readonly #records = new Records();

  constructor(table: LeaseTable) {
    this.#table = table;
  }

  get size(): number {
    return this.#records.size;
  }

  find(key: string): Place | undefined {
    return this.#records.find(key);
  }

  /** Whose place it is: one below `size`. */
  keyAt(place: Place): string {
    return this.#records.keyAt(place);
  }

  /** A peer that holds nothing. @throws `ERR_LIMITER_MEMORY` */
  insert(key: string): Place {
    const place = this.#records.insert(key);
    try {
      this.#table.set(key, 0, NEVER);
    } catch (error) {
      this.#records.delete(key);
      throw error;
    }
    return place;
  }

  delete(key: string): void {
    this.#table.delete(key);
    this.#records.delete(key);
  }

  /** The clock that `spend` reads where a time is left out. */
  now(): number {
    return this.#table.now();
  }

  /** Takes `cost` from the lease of a peer, known or not, if it is not over and has so much beside its reserve. */
  spend(key: string, cost: number, now?: number): boolean {
    return this.#table.spend(key, cost, now) === undefined;
  }

  /** Takes `cost` where that needs the reserve, which is none from then on: it is time for more. */
  spendReserve(place: Place, cost: number, now: number): boolean {
    const reserve = this.#get(place, RESERVE);
    if (reserve === 0 || !(now < this.until(place))) return false;
    const left = this.#spendable(place) - cost + reserve;
    if (!(left >= 0)) return false;
    this.#hold(place, left, 0);
    return true;
  }

  /** Tokens of a lease that is not over. */
  left(place: Place, now: number): number {
    return now < this.until(place) ? this.#spendable(place) + this.#get(place, RESERVE) : 0;
  }

  /** Forgets what is left of a lease whose time is over. */
  endIfOver(place: Place, now: number): void {
    if (!(now < this.until(place))) this.#hold(place, 0, 0);
  }

  /** The number of the last lease; 0 if there was none. */
  lease(place: Place): number {
    return this.#get(place, LEASE);
  }

  /** How much the last lease was of. */
  granted(place: Place): number {
    return this.#get(place, GRANTED);
  }

  /** When the last lease ends. */
  until(place: Place): number {
    return this.#get(place, UNTIL);
  }

  /** A lease is granted: on top of what is left, or, if that was over by then, instead of it. */
  grant(place: Place, granted: number, carried: boolean, until: number, lease: number): void {
    const before = carried ? this.#spendable(place) + this.#get(place, RESERVE) : 0;
    const reserve = Math.floor(granted * RESERVED);
    this.#hold(place, before + granted - reserve, reserve, until);
    this.#set(place, GRANTED, granted);
    this.#set(place, LEASE, lease);
    this.#set(place, REFUSED_UNTIL, NEVER);
  }

  /** `cost`, and whatever costs more, is refused until then. */
  refuse(place: Place, cost: number, until: number): void {
    this.#set(place, REFUSED_COST, cost);
    this.#set(place, REFUSED_UNTIL, until);
  }

  /** Seconds until a refusal ends that `cost` falls under; 0 if none does. */
  refusedSeconds(place: Place, cost: number, now: number): number {
    const seconds = this.#get(place, REFUSED_UNTIL) - now;
    return seconds > 0 && cost >= this.#get(place, REFUSED_COST) ? seconds : 0;
  }

  refusedCost(place: Place): number {
    return this.#get(place, REFUSED_COST);
  }

  violations(place: Place): number {
    return this.#get(place, VIOLATIONS);
  }

  /** One more; returns how many there are. */
  addViolation(place: Place): number {
    const violations = this.#get(place, VIOLATIONS) + 1;
    this.#set(place, VIOLATIONS, violations);
    return violations;
  }

  /** Violations that the store has not been told of. */
  unreported(place: Place): number {
    return this.#get(place, VIOLATIONS) - this.#get(place, REPORTED);
  }

  /**
   * The store is told of all; returns how many it had not been told of. If the question is lost they are: an
   * answer that is lost must not have them counted twice.
   */
  tell(place: Place): number {
    const told = this.unreported(place);
    this.#set(place, REPORTED, this.#get(place, VIOLATIONS));
    return told;
  }

  /** The store knows of so many in all; those it has not been told of come on top. */
  known(place: Place, violations: number): void {
    const rest = this.unreported(place);
    this.#set(place, REPORTED, violations);
    this.#set(place, VIOLATIONS, violations + rest);
  }

  /** Whether nothing is forgotten with it. */
  isIdle(place: Place, now: number): boolean {
    return (
      this.left(place, now) === 0 &&
      this.#get(place, REFUSED_UNTIL) <= now &&
      this.unreported(place) === 0
    );
  }

  /** Tokens held in all. */
  total(now: number): number {
    let total = this.#table.total(now);
    for (let place = 0; place < this.size; place += 1) {
      if (now < this.until(place)) total += this.#get(place, RESERVE);
    }
    return total;
  }

  #spendable(place: Place): number {
    return this.#table.tokens(this.keyAt(place));
  }

  /** Until the lease ends, so much may be spent, and behind it the reserve. */
  #hold(place: Place, spendable: number, reserve: number, until = this.until(place)): void {
    this.#table.set(this.keyAt(place), spendable, until);
    this.#set(place, RESERVE, reserve);
    this.#set(place, UNTIL, until);
  }

  #get(place: Place, field: number): number {
    return this.#records.get(place, field);
  }

  #set(place: Place, field: number, value: number): void {
    this.#records.set(place, field, value);
  }
}
