// Tables of the TypeScript engine: Maps, and the records' numbers beside one. Knows no limiter.

import { limiterError } from '../common/errors.js';
import { delaySeconds, elapsed, refill, secondsUntilFull } from './arithmetic.js';
import { KeyMap } from './key-map.js';
import { keep } from './keys.js';

/**
 * The most keys that a table can keep while some go and others come. V8 gives a Map at most 2^24 entries,
 * and reuses those of deleted keys only when they are half of them: with more keys than the other half
 * it sooner or later takes no new one.
 */
export const MOST_KEYS = 2 ** 23;

/**
 * `table.set`. @throws `ERR_LIMITER_MEMORY` where the Map takes no more; nothing has
 * changed then.
 */
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

/** Where a record is: a number below how many there are. A deletion may move another one there. */
export type Place = number;

const LEAST_RECORDS = 64;

export const MOST_NOTE = 0xffff;

/**
 * Records by key: some doubles each, side by side in one array. An object for each record would
 * take twice the memory, and three cache lines where this takes one.
 */
export class Table {
  /** Those of the record at `place` begin at `place` times the width. */
  protected doubles: Float64Array;
  readonly #width: number;
  readonly #places = new KeyMap<Place>();
  /** Whose record is at each place. */
  #keys: string[] = [];
  #notes = new Uint16Array(LEAST_RECORDS);

  constructor(width: number) {
    this.#width = width;
    this.doubles = new Float64Array(LEAST_RECORDS * width);
  }

  get size(): number {
    return this.#places.size;
  }

  /** In the order in which they were inserted. */
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
   * The very string that stands for a key here, or a copy where there is none. One string for all
   * tables takes less memory, and V8 sees at once that it equals itself.
   */
  ownKey(key: string): string {
    const place = this.#places.get(key);
    return place === undefined ? keep(key) : this.keyAt(place);
  }

  /** Whether the record at `place`, if there is one, is the key's. */
  isAt(place: Place, key: string): boolean {
    return this.#keys[place] === key;
  }

  /** `key` is that of the record at `place`: isAt need not compare this very string unit by unit. */
  nameAt(place: Place, key: string): void {
    this.#keys[place] = key;
  }

  /** A number up to MOST_NOTE that the table's user keeps of each record; 0 of a new one. */
  noteAt(place: Place): number {
    return this.#notes[place] as number;
  }

  setNote(place: Place, note: number): void {
    this.#notes[place] = note;
  }

  /** Deletes a record, true if there was one: the last one takes its place. */
  delete(key: string): boolean {
    const place = this.#places.get(key);
    if (place === undefined) return false;
    this.#places.delete(key);
    const last = this.#keys.length - 1;
    const lastKey = this.#keys.pop() as string;
    if (place !== last) {
      this.#move(last, place);
      this.#keys[place] = lastKey;
      this.#places.set(lastKey, place);
    }
    this.#shrink();
    return true;
  }

  /**
   * Visits random places, or all of them where there are at most `most`: none after visit has
   * returned true.
   */
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
    this.doubles = new Float64Array(LEAST_RECORDS * this.#width);
    this.#notes = new Uint16Array(LEAST_RECORDS);
  }

  /**
   * A place for a key that has none: `given`, which another key gives up, or a new one. The numbers
   * there are any. It keeps this very string. @throws `ERR_LIMITER_MEMORY` as `store` does.
   */
  protected add(key: string, given: Place | undefined): Place {
    return given === undefined ? this.#append(key) : this.#replace(given, key);
  }

  #replace(place: Place, key: string): Place {
    store(this.#places, key, place);
    this.#places.delete(this.keyAt(place));
    this.#keys[place] = key;
    this.#notes[place] = 0;
    return place;
  }

  #append(key: string): Place {
    const place = this.#keys.length;
    if (place * this.#width === this.doubles.length) this.#grow();
    store(this.#places, key, place);
    this.#keys.push(key);
    this.#notes[place] = 0;
    return place;
  }

  #move(from: Place, to: Place): void {
    const width = this.#width;
    for (let i = 0; i < width; i += 1) {
      this.doubles[to * width + i] = this.doubles[from * width + i] as number;
    }
    this.#notes[to] = this.#notes[from] as number;
  }

  #grow(): void {
    try {
      this.#resize(this.doubles.length * 2);
    } catch (cause) {
      throw noMemory(cause);
    }
  }

  /** Gives back half of the array where a quarter is in use. */
  #shrink(): void {
    const { length } = this.doubles;
    const width = this.#width;
    if (length === LEAST_RECORDS * width || this.#keys.length * width > length / 4) return;
    try {
      this.#resize(length / 2);
    } catch {
      // Without memory for a smaller one the larger one stays.
    }
  }

  /** @throws RangeError where there is no memory; nothing has changed then. */
  #resize(length: number): void {
    const doubles = new Float64Array(length);
    const notes = new Uint16Array(length / this.#width);
    doubles.set(this.doubles.subarray(0, length));
    notes.set(this.#notes.subarray(0, notes.length));
    this.doubles = doubles;
    this.#notes = notes;
  }
}

/** An instant for each key. */
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

  /** Seconds since the instant of a key; Infinity where it has none. */
  idleSeconds(key: string, now: number): number {
    const place = this.find(key);
    return place === undefined ? Infinity : elapsed(now, this.at(place));
  }

  /** For a key that has none, as `add` does. */
  insert(key: string, time: number, given?: Place): Place {
    const place = this.add(key, given);
    this.set(place, time);
    return place;
  }
}

// A bucket is two doubles: tokens, and when it was last refilled, at each consume, refused or not.
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

  /** A bucket for a key that has none, as `add` does. */
  insert(key: string, tokens: number, now: number, given?: Place): Place {
    const place = this.add(key, given);
    this.set(place, tokens, now);
    return place;
  }

  /** Refills, then takes `cost` if it is there. `rate` is in tokens a second. */
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

  /** Tokens as of the last refill. */
  tokens(place: Place): number {
    return this.doubles[place * DOUBLES] as number;
  }

  /** Seconds until `cost` tokens are there, as of the last refill; Infinity if they cannot be. */
  delaySeconds(place: Place, cost: number, rate: number, capacity: number): number {
    return delaySeconds(this.tokens(place), cost, rate, capacity);
  }

  /** Seconds until it is full, if nothing is taken; 0 if it is. */
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
