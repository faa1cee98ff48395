// Tables of the TypeScript engine: a Map from keys to places, and typed arrays with the numbers of the records.

import { limiterError } from '../common/errors.js';
import { delaySeconds, elapsed, refill, secondsUntilFull } from './arithmetic.js';
import { KeyMap } from './key-map.js';
import { keep } from './keys.js';

/**
 * The maximum number of keys of a table from which keys are removed while others are added. V8 gives a Map at most 2^24
 * entries, and reuses the entries of deleted keys only when they are half of all. With more keys than the other half, a
 * Map sooner or later refuses a new one.
 */
export const MOST_KEYS = 2 ** 23;

/** Calls `table.set`. @throws `ERR_LIMITER_MEMORY` if the Map is full; then nothing has changed. */
export function store<T>(table: KeyMap<T>, key: string, value: T): void {
  try {
    table.set(key, value);
  } catch (cause) {
    throw noMemory(cause);
  }
}

function noMemory(cause: unknown): Error {
  return limiterError(Error, 'ERR_LIMITER_MEMORY', 'no memory for one more peer', cause);
}

/** The index of a record, below the number of records. A deletion may move another record there. */
export type Place = number;

const LEAST_RECORDS = 64;

/** The highest note of a record. */
export const MOST_NOTE = 0xffff;

/**
 * Records by key. A record is some doubles, next to each other in one array. An object for each record would take twice
 * the memory, and three cache lines in place of one.
 */
export class Table {
  /** The doubles of the record at `place` begin at `place` times the width. */
  protected doubles: Float64Array;
  /** Doubles per record. */
  protected width: number;
  readonly #places = new KeyMap<Place>();
  /** The key of the record at each place. */
  #keys: string[] = [];
  #notes = new Uint16Array(LEAST_RECORDS);

  constructor(width: number) {
    this.width = width;
    this.doubles = new Float64Array(LEAST_RECORDS * width);
  }

  get size(): number {
    return this.#places.size;
  }

  /** In the order of insertion. */
  entries(): IterableIterator<[string, Place]> {
    return this.#places.entries();
  }

  find(key: string): Place | undefined {
    return this.#places.get(key);
  }

  keyAt(place: Place): string {
    return this.#keys[place] as string;
  }

  /**
   * The string that this table stores for a key, or a copy of the key if there is none. Using one string for all tables
   * takes less memory, and V8 compares a string with itself in O(1).
   */
  ownKey(key: string): string {
    const place = this.#places.get(key);
    return place === undefined ? keep(key) : this.keyAt(place);
  }

  /** Whether there is a record at `place`, and it is the key's. */
  isAt(place: Place, key: string): boolean {
    return this.#keys[place] === key;
  }

  /** Replaces the stored key at `place` by an equal string, so that isAt() compares identical strings in O(1). */
  nameAt(place: Place, key: string): void {
    this.#keys[place] = key;
  }

  /** A number up to MOST_NOTE that the user of the table stores with each record; 0 for a new record. */
  noteAt(place: Place): number {
    return this.#notes[place] as number;
  }

  setNote(place: Place, note: number): void {
    this.#notes[place] = note;
  }

  /** Deletes a record and moves the last record to its place. False if there is no record. */
  delete(key: string): boolean {
    const place = this.#places.get(key);
    if (place === undefined) return false;
    this.#places.delete(key);
    const last = this.#keys.length - 1;
    const lastKey = this.#keys.pop() as string;
    if (place !== last) {
      this.move(last, place);
      this.#keys[place] = lastKey;
      this.#places.set(lastKey, place);
    }
    this.#shrink();
    return true;
  }

  /** Visits up to `most` random places, or all places if there are no more. Stops if `visit` returns true. */
  sample(most: number, visit: (place: Place) => boolean): void {
    const { size } = this;
    for (let n = 0; n < most && n < size; n += 1) {
      const place = size <= most ? n : Math.floor(Math.random() * size);
      if (visit(place)) return;
    }
  }

  clear(): void {
    this.#places.clear();
    this.#keys = [];
    this.doubles = new Float64Array(LEAST_RECORDS * this.width);
    this.#notes = new Uint16Array(LEAST_RECORDS);
  }

  /**
   * Adds a record for a key that has none: at a new place, or at `given`, where it replaces another key's record. The
   * caller must set the doubles. The table stores this very string. @throws `ERR_LIMITER_MEMORY` as `store` does.
   */
  protected add(key: string, given: Place | undefined): Place {
    return given === undefined ? this.#append(key) : this.#replace(given, key);
  }

  /**
   * The first half of a replacement: the key is found at `place`, which still has another key's record. @throws
   * `ERR_LIMITER_MEMORY` as `store` does.
   */
  protected announce(place: Place, key: string): void {
    store(this.#places, key, place);
  }

  /** Undoes announce(). */
  protected withdraw(key: string): void {
    this.#places.delete(key);
  }

  /** The second half: the record at `place` becomes that of an announced key. The caller must set the doubles. */
  protected takeOver(place: Place, key: string): void {
    this.#places.delete(this.keyAt(place));
    this.#keys[place] = key;
    this.#notes[place] = 0;
  }

  #replace(place: Place, key: string): Place {
    this.announce(place, key);
    this.takeOver(place, key);
    return place;
  }

  #append(key: string): Place {
    const place = this.#keys.length;
    if (place * this.width === this.doubles.length) this.#grow();
    store(this.#places, key, place);
    this.#keys.push(key);
    this.#notes[place] = 0;
    return place;
  }

  protected move(from: Place, to: Place): void {
    const width = this.width;
    for (let i = 0; i < width; i += 1) {
      this.doubles[to * width + i] = this.doubles[from * width + i] as number;
    }
    this.#notes[to] = this.#notes[from] as number;
  }

  #grow(): void {
    try {
      this.resize(this.doubles.length * 2);
    } catch (cause) {
      throw noMemory(cause);
    }
  }

  /** Halves the arrays if at most a quarter is in use. */
  #shrink(): void {
    const { length } = this.doubles;
    const width = this.width;
    if (length === LEAST_RECORDS * width || this.#keys.length * width > length / 4) return;
    try {
      this.resize(length / 2);
    } catch {
      // If there is no memory for smaller arrays, the larger ones stay.
    }
  }

  /** @throws RangeError if there is no memory; then nothing has changed. */
  protected resize(length: number): void {
    const doubles = new Float64Array(length);
    const notes = new Uint16Array(length / this.width);
    doubles.set(this.doubles.subarray(0, length));
    notes.set(this.#notes.subarray(0, notes.length));
    this.doubles = doubles;
    this.#notes = notes;
  }
}

/** An instant for each key, in monotonic seconds. */
export class Times extends Table {
  constructor() {
    super(1);
  }

  at(place: Place): number {
    return this.doubles[place] as number;
  }

  set(place: Place, time: number): void {
    this.doubles[place] = time;
  }

  /** Seconds since the instant of a key; Infinity if it has none. */
  idleSeconds(key: string, now: number): number {
    const place = this.find(key);
    return place === undefined ? Infinity : elapsed(now, this.at(place));
  }

  /** Adds an instant for a key that has none, as `add` does. */
  insert(key: string, time: number, given?: Place): Place {
    const place = this.add(key, given);
    this.set(place, time);
    return place;
  }
}

// A bucket is two doubles: tokens, and the instant of the last refill. Each consume() refills, even if it returns
// false.
const DOUBLES = 2;

/** Token buckets by key. */
export class Buckets extends Table {
  constructor() {
    super(DOUBLES);
  }

  set(place: Place, tokens: number, now: number): void {
    this.doubles[place * DOUBLES] = tokens;
    this.doubles[place * DOUBLES + 1] = now;
  }

  /** Adds a bucket for a key that has none, as `add` does. */
  insert(key: string, tokens: number, now: number, given?: Place): Place {
    const place = this.add(key, given);
    this.set(place, tokens, now);
    return place;
  }

  /** Refills a bucket, then takes `cost` tokens if it has them. `rate` is in tokens per second. */
  consume(place: Place, cost: number, now: number, rate: number, capacity: number): boolean {
    const doubles = this.doubles;
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

  /** The tokens at the last refill. */
  tokens(place: Place): number {
    return this.doubles[place * DOUBLES] as number;
  }

  /** The tokens after a refill at `now`. */
  refilledTokens(place: Place, now: number, rate: number, capacity: number): number {
    return refill(this.tokens(place), this.lastRefill(place), now, rate, capacity);
  }

  /** Seconds from the last refill until the bucket has `cost` tokens; Infinity if it never can. */
  delaySeconds(place: Place, cost: number, rate: number, capacity: number): number {
    return delaySeconds(this.tokens(place), cost, rate, capacity);
  }

  /** Seconds from `now` until the bucket is full if nothing is taken; 0 if it is full. */
  secondsUntilFull(place: Place, now: number, rate: number, capacity: number): number {
    const doubles = this.doubles;
    const at = place * DOUBLES;
    const lastRefill = doubles[at + 1] as number;
    return secondsUntilFull(doubles[at] as number, lastRefill, now, rate, capacity);
  }

  lastRefill(place: Place): number {
    return this.doubles[place * DOUBLES + 1] as number;
  }

  /** Seconds since the last refill. */
  idle(place: Place, now: number): number {
    return elapsed(now, this.doubles[place * DOUBLES + 1] as number);
  }
}
