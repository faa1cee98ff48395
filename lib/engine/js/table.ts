// Tables of the TypeScript engine: Maps, and the buckets' numbers beside one. Knows no limiter.

import { limiterError } from '../../errors.js';
import { delaySeconds, elapsed, refill } from './arithmetic.js';

/**
 * `table.set`. @throws `ERR_LIMITER_MEMORY` where the Map takes no more, at some sixteen million
 * entries; nothing has changed then.
 */
export function store<T>(table: Map<string, T>, key: string, value: T): void {
  try {
    table.set(key, value);
  } catch (cause) {
    throw noMemory(cause);
  }
}

function noMemory(cause: unknown): Error {
  return limiterError(Error, 'ERR_LIMITER_MEMORY', 'no memory for one more peer', cause);
}

/** Where a bucket is: a number from 0, which may be another bucket's after a deletion. */
export type Place = number;

// A bucket is two doubles: tokens, and when it was last refilled, at each consume, refused or not.
const DOUBLES = 2;
const FIRST_CAPACITY = 64;

/**
 * Token buckets by key. Their numbers lie side by side in one array: an object for each bucket
 * would take twice the memory, and three cache lines where this takes one.
 */
export class Buckets {
  readonly #places = new Map<string, Place>();
  /** Whose bucket is at each place; undefined where it was deleted. */
  #keys: (string | undefined)[] = [];
  /** Places of deleted buckets, for the next to come. */
  #free: Place[] = [];
  #doubles = new Float64Array(DOUBLES * FIRST_CAPACITY);

  get size(): number {
    return this.#places.size;
  }

  entries(): Iterator<[string, Place]> {
    return this.#places.entries();
  }

  find(key: string): Place | undefined {
    return this.#places.get(key);
  }

  /** Whether the bucket at `place`, if there is one, is the key's. */
  isAt(place: Place, key: string): boolean {
    return this.#keys[place] === key;
  }

  /** A bucket for a key that has none. @throws `ERR_LIMITER_MEMORY` as `store` does. */
  insert(key: string, tokens: number, now: number): Place {
    const place = this.#free.at(-1) ?? this.#keys.length;
    if (place * DOUBLES === this.#doubles.length) this.#grow();
    store(this.#places, key, place);
    this.#free.pop();
    this.#keys[place] = key;
    this.#doubles[place * DOUBLES] = tokens;
    this.#doubles[place * DOUBLES + 1] = now;
    return place;
  }

  delete(key: string): boolean {
    const place = this.#places.get(key);
    if (place === undefined) return false;
    this.#places.delete(key);
    this.#keys[place] = undefined;
    this.#free.push(place);
    return true;
  }

  clear(): void {
    this.#places.clear();
    this.#keys = [];
    this.#free = [];
    this.#doubles = new Float64Array(DOUBLES * FIRST_CAPACITY);
  }

  /** Refills, then takes `cost` if it is there. `rate` is in tokens a second. */
  consume(place: Place, cost: number, now: number, rate: number, capacity: number): boolean {
    const doubles = this.#doubles;
    const at = place * DOUBLES;
    const tokens = refill(doubles[at] as number, doubles[at + 1] as number, now, rate, capacity);
    doubles[at + 1] = now;
    if (!(tokens >= cost)) {
      doubles[at] = tokens;
      return false;
    }
    doubles[at] = tokens - cost;
    return true;
  }

  /** Seconds until `cost` tokens are there, as of the last refill; Infinity if they cannot be. */
  delaySeconds(place: Place, cost: number, rate: number, capacity: number): number {
    return delaySeconds(this.#doubles[place * DOUBLES] as number, cost, rate, capacity);
  }

  /** Seconds since the last refill. */
  idle(place: Place, now: number): number {
    return elapsed(now, this.#doubles[place * DOUBLES + 1] as number);
  }

  #grow(): void {
    try {
      const doubles = new Float64Array(this.#doubles.length * 2);
      doubles.set(this.#doubles);
      this.#doubles = doubles;
    } catch (cause) {
      throw noMemory(cause);
    }
  }
}
