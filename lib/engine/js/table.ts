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

/** Where a bucket is: a number below how many there are. A deletion may move another one there. */
export type Place = number;

// A bucket is two doubles: tokens, and when it was last refilled, at each consume, refused or not.
const DOUBLES = 2;
const LEAST_DOUBLES = DOUBLES * 64;

/**
 * Token buckets by key. Their numbers lie side by side in one array: an object for each bucket
 * would take twice the memory, and three cache lines where this takes one.
 */
export class Buckets {
  readonly #places = new Map<string, Place>();
  /** Whose bucket is at each place. */
  #keys: string[] = [];
  #doubles = new Float64Array(LEAST_DOUBLES);

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
    const place = this.#keys.length;
    if (place * DOUBLES === this.#doubles.length) this.#grow();
    store(this.#places, key, place);
    this.#keys.push(key);
    this.#doubles[place * DOUBLES] = tokens;
    this.#doubles[place * DOUBLES + 1] = now;
    return place;
  }

  /** Deletes a bucket, true if there was one: the last one takes its place. */
  delete(key: string): boolean {
    const place = this.#places.get(key);
    if (place === undefined) return false;
    this.#places.delete(key);
    const last = this.#keys.length - 1;
    const lastKey = this.#keys.pop() as string;
    if (place !== last) {
      this.#doubles[place * DOUBLES] = this.#doubles[last * DOUBLES] as number;
      this.#doubles[place * DOUBLES + 1] = this.#doubles[last * DOUBLES + 1] as number;
      this.#keys[place] = lastKey;
      this.#places.set(lastKey, place);
    }
    this.#shrink();
    return true;
  }

  clear(): void {
    this.#places.clear();
    this.#keys = [];
    this.#doubles = new Float64Array(LEAST_DOUBLES);
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

  /** Tokens as of the last refill. */
  tokens(place: Place): number {
    return this.#doubles[place * DOUBLES] as number;
  }

  /** Seconds until `cost` tokens are there, as of the last refill; Infinity if they cannot be. */
  delaySeconds(place: Place, cost: number, rate: number, capacity: number): number {
    return delaySeconds(this.tokens(place), cost, rate, capacity);
  }

  /** Seconds since the last refill. */
  idle(place: Place, now: number): number {
    return elapsed(now, this.#doubles[place * DOUBLES + 1] as number);
  }

  #grow(): void {
    try {
      this.#resize(this.#doubles.length * 2);
    } catch (cause) {
      throw noMemory(cause);
    }
  }

  /** Gives back half of the array where a quarter is in use. */
  #shrink(): void {
    const { length } = this.#doubles;
    if (length === LEAST_DOUBLES || this.#keys.length * DOUBLES > length / 4) return;
    try {
      this.#resize(length / 2);
    } catch {
      // Without memory for a smaller one the larger one stays.
    }
  }

  /** @throws RangeError where there is no memory; nothing has changed then. */
  #resize(length: number): void {
    const doubles = new Float64Array(length);
    doubles.set(this.#doubles.subarray(0, length));
    this.#doubles = doubles;
  }
}
