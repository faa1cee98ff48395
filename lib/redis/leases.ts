// What a node holds of its peers: leased tokens, and refusals until the time they name. Two arrays of
// doubles beside a Map, as the buckets of lib/engine/js/table.ts: a check that is covered touches two
// neighbours of the first. Knows no store.

import { store } from '../engine/js/table.js';

/** Where a peer is: a number below how many there are. A deletion may move another one there. */
export type Place = number;

/** What became of a cost: taken, taken from the last quarter of a lease, or not covered. */
export const TAKEN = 0;
export const TAKEN_AND_LOW = 1;
export const NOT_COVERED = 2;
export type Spent = typeof TAKEN | typeof TAKEN_AND_LOW | typeof NOT_COVERED;

// A peer's doubles in the first array: tokens that may be spent, until when.
const LEFT = 0;
const UNTIL = 1;
const HOT = 2;

// In the second one.
const RESERVE = 0;
const GRANTED = 1;
const LEASE = 2;
const REFUSED_UNTIL = 3;
const REFUSED_COST = 4;
const VIOLATIONS = 5;
const REPORTED = 6;
const COLD = 7;

const LEAST_PLACES = 16;
/** So much of a lease is set apart: when the rest is spent it is time for more. */
const RESERVED = 1 / 4;

export class Leases {
  readonly #places = new Map<string, Place>();
  #keys: string[] = [];
  #hot = new Float64Array(HOT * LEAST_PLACES);
  #cold = new Float64Array(COLD * LEAST_PLACES);

  get size(): number {
    return this.#keys.length;
  }

  find(key: string): Place | undefined {
    return this.#places.get(key);
  }

  /** Whose place it is; undefined beyond the last. */
  keyAt(place: Place): string | undefined {
    return this.#keys[place];
  }

  /** A peer that holds nothing. @throws `ERR_LIMITER_MEMORY` */
  insert(key: string): Place {
    const place = this.#keys.length;
    if (place * HOT === this.#hot.length) this.#resize(place * 2);
    store(this.#places, key, place);
    this.#keys.push(key);
    this.#hot[place * HOT + LEFT] = 0;
    this.#hot[place * HOT + UNTIL] = Number.NEGATIVE_INFINITY;
    this.#cold.fill(0, place * COLD, (place + 1) * COLD);
    this.#set(place, REFUSED_UNTIL, Number.NEGATIVE_INFINITY);
    return place;
  }

  delete(key: string): void {
    const place = this.#places.get(key);
    if (place === undefined) return;
    this.#places.delete(key);
    const last = this.#keys.length - 1;
    const lastKey = this.#keys.pop() as string;
    if (place !== last) {
      this.#hot.copyWithin(place * HOT, last * HOT, (last + 1) * HOT);
      this.#cold.copyWithin(place * COLD, last * COLD, (last + 1) * COLD);
      this.#keys[place] = lastKey;
      this.#places.set(lastKey, place);
    }
    const places = this.#hot.length / HOT;
    if (places > LEAST_PLACES && last < places / 4) this.#resize(places / 2);
  }

  /** Takes `cost` from the lease, if it is there and the lease is not over. */
  spend(place: Place, cost: number, now: number): Spent {
    const hot = this.#hot;
    const at = place * HOT;
    if (!(now < (hot[at + UNTIL] as number))) return NOT_COVERED;
    const left = (hot[at + LEFT] as number) - cost;
    if (left >= 0) {
      hot[at + LEFT] = left;
      return TAKEN;
    }
    const reserve = this.#get(place, RESERVE);
    if (!(left + reserve >= 0)) return NOT_COVERED;
    hot[at + LEFT] = left + reserve;
    this.#set(place, RESERVE, 0);
    return reserve > 0 ? TAKEN_AND_LOW : TAKEN;
  }

  /** Tokens of a lease that is not over. */
  left(place: Place, now: number): number {
    if (!(now < this.until(place))) return 0;
    return (this.#hot[place * HOT + LEFT] as number) + this.#get(place, RESERVE);
  }

  /** Forgets what is left of a lease whose time is over. */
  endIfOver(place: Place, now: number): void {
    if (now < this.until(place)) return;
    this.#hot[place * HOT + LEFT] = 0;
    this.#set(place, RESERVE, 0);
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
    return this.#hot[place * HOT + UNTIL] as number;
  }

  /** A lease is granted: on top of what is left, or, if that was over by then, instead of it. */
  grant(place: Place, granted: number, carried: boolean, until: number, lease: number): void {
    const at = place * HOT;
    const before = carried ? (this.#hot[at + LEFT] as number) + this.#get(place, RESERVE) : 0;
    const reserve = Math.floor(granted * RESERVED);
    this.#hot[at + LEFT] = before + granted - reserve;
    this.#hot[at + UNTIL] = until;
    this.#set(place, RESERVE, reserve);
    this.#set(place, GRANTED, granted);
    this.#set(place, LEASE, lease);
    this.#set(place, REFUSED_UNTIL, Number.NEGATIVE_INFINITY);
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
    let total = 0;
    for (let place = 0; place < this.#keys.length; place += 1) total += this.left(place, now);
    return total;
  }

  #get(place: Place, field: number): number {
    return this.#cold[place * COLD + field] as number;
  }

  #set(place: Place, field: number, value: number): void {
    this.#cold[place * COLD + field] = value;
  }

  #resize(places: number): void {
    this.#hot = resized(this.#hot, places * HOT);
    this.#cold = resized(this.#cold, places * COLD);
  }
}

function resized(doubles: Float64Array, length: number): Float64Array<ArrayBuffer> {
  const result = new Float64Array(length);
  result.set(doubles.subarray(0, length));
  return result;
}
