// What a node holds of its peers: leased tokens, and refusals until the time they name. One array of
// doubles beside a Map, as the buckets of lib/engine/js/table.ts: a check that is covered touches one
// line of it. Knows no store.

import { store } from '../engine/js/table.js';

/** Where a peer is: a number below how many there are. A deletion may move another one there. */
export type Place = number;

/** What became of a cost: taken, taken with little left, or not covered. */
export const TAKEN = 0;
export const TAKEN_AND_LOW = 1;
export const NOT_COVERED = 2;
export type Spent = typeof TAKEN | typeof TAKEN_AND_LOW | typeof NOT_COVERED;

// A peer's doubles.
const LEFT = 0;
const UNTIL = 1;
const GRANTED = 2;
const LEASE = 3;
const REFUSED_UNTIL = 4;
const REFUSED_COST = 5;
const VIOLATIONS = 6;
const REPORTED = 7;
const DOUBLES = 8;

const LEAST_DOUBLES = DOUBLES * 16;
/** Below this share of what was granted it is time for more. */
const LOW = 1 / 4;

export class Leases {
  readonly #places = new Map<string, Place>();
  #keys: string[] = [];
  #doubles = new Float64Array(LEAST_DOUBLES);

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
    if (place * DOUBLES === this.#doubles.length) this.#resize(this.#doubles.length * 2);
    store(this.#places, key, place);
    this.#keys.push(key);
    this.#doubles.fill(0, place * DOUBLES, (place + 1) * DOUBLES);
    this.#doubles[place * DOUBLES + UNTIL] = -Infinity;
    this.#doubles[place * DOUBLES + REFUSED_UNTIL] = -Infinity;
    return place;
  }

  delete(key: string): void {
    const place = this.#places.get(key);
    if (place === undefined) return;
    this.#places.delete(key);
    const last = this.#keys.length - 1;
    const lastKey = this.#keys.pop() as string;
    if (place !== last) {
      this.#doubles.copyWithin(place * DOUBLES, last * DOUBLES, (last + 1) * DOUBLES);
      this.#keys[place] = lastKey;
      this.#places.set(lastKey, place);
    }
    const { length } = this.#doubles;
    if (length > LEAST_DOUBLES && last * DOUBLES < length / 4) this.#resize(length / 2);
  }

  clear(): void {
    this.#places.clear();
    this.#keys = [];
    this.#doubles = new Float64Array(LEAST_DOUBLES);
  }

  /** Takes `cost` from the lease, if it is there and the lease is not over. */
  spend(place: Place, cost: number, now: number): Spent {
    const doubles = this.#doubles;
    const at = place * DOUBLES;
    const left = (doubles[at + LEFT] as number) - cost;
    if (!(left >= 0 && now < (doubles[at + UNTIL] as number))) return NOT_COVERED;
    doubles[at + LEFT] = left;
    return left < (doubles[at + GRANTED] as number) * LOW ? TAKEN_AND_LOW : TAKEN;
  }

  /** Tokens of a lease that is not over. */
  left(place: Place, now: number): number {
    return now < this.#get(place, UNTIL) ? this.#get(place, LEFT) : 0;
  }

  /** The number of the last lease; 0 if there was none. */
  lease(place: Place): number {
    return this.#get(place, LEASE);
  }

  /** How much the last lease was of, and until when. */
  granted(place: Place): number {
    return this.#get(place, GRANTED);
  }

  until(place: Place): number {
    return this.#get(place, UNTIL);
  }

  /** No `TAKEN_AND_LOW` until the next grant. */
  asked(place: Place): void {
    this.#set(place, GRANTED, 0);
  }

  /** A lease is granted: on top of what is left, or, if that was over by then, instead of it. */
  grant(place: Place, granted: number, carried: boolean, until: number, lease: number): void {
    this.#set(place, LEFT, granted + (carried ? this.#get(place, LEFT) : 0));
    this.#set(place, UNTIL, until);
    this.#set(place, GRANTED, granted);
    this.#set(place, LEASE, lease);
    this.#set(place, REFUSED_UNTIL, -Infinity);
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

  /** The store has been told of some, and knows of so many in all. */
  reported(place: Place, told: number, known: number): void {
    const rest = this.unreported(place) - told;
    this.#set(place, REPORTED, known);
    this.#set(place, VIOLATIONS, known + rest);
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
    return this.#doubles[place * DOUBLES + field] as number;
  }

  #set(place: Place, field: number, value: number): void {
    this.#doubles[place * DOUBLES + field] = value;
  }

  #resize(length: number): void {
    const doubles = new Float64Array(length);
    doubles.set(this.#doubles.subarray(0, length));
    this.#doubles = doubles;
  }
}
