// RuleRecords stores the records of a scope: the instant of the last refill, and for each slot the used tokens. If an
// update needs more slots than a record has, the table gets an array of wider records, and each record moves there when
// it is next used. So no call visits all records, and a record keeps its place.

import { limiterError } from '../../../common/errors.js';
import { type Place, Table } from '../../../tables/table.js';

/** The numbers of slots that a record can have. */
const CLASSES = [1, 5, 13] as const;

interface RecordArray {
  readonly doubles: Float64Array;
  readonly width: number;
}

function widthFor(slots: number): number {
  return 1 + (CLASSES.find((size) => slots <= size) as number);
}

export class RuleRecords extends Table {
  /** The arrays before the current one, if there are records that have not moved yet. */
  #older: RecordArray[] = [];
  /** For each place the number of its array: an index in #older, or the number of these, which is the current one. */
  #arrays: Uint8Array | undefined;
  /** The number of records in #older. */
  #unmoved = 0;

  constructor(slots: number) {
    super(widthFor(slots));
  }

  /** The numbers of all records, until one is inserted or deleted. The record at a place begins at baseOf(place). */
  get numbers(): Float64Array {
    return this.doubles;
  }

  /** The index in `numbers` at which a record begins. Moves the record to the current array. */
  baseOf(place: Place): number {
    if (this.#unmoved > 0) this.#moveUp(place);
    return place * this.width;
  }

  /** The instant of the last refill. */
  at(place: Place): number {
    return this.doubles[this.baseOf(place)] as number;
  }

  /** Makes records with at least so many slots possible. @throws `ERR_LIMITER_MEMORY`; then nothing has changed. */
  widen(slots: number): void {
    const width = widthFor(slots);
    if (width <= this.width) return;
    const places = this.doubles.length / this.width;
    let doubles: Float64Array;
    try {
      doubles = new Float64Array(places * width);
      this.#arrays ??= new Uint8Array(places);
    } catch (cause) {
      throw limiterError(Error, 'ERR_LIMITER_MEMORY', 'no memory for more rules', cause);
    }
    this.#older.push({ doubles: this.doubles, width: this.width });
    this.#unmoved = this.size;
    this.doubles = doubles;
    this.width = width;
    this.#forgetIfMoved();
  }

  /** Adds a record with nothing used for a key that has none, as `add` does. */
  insert(key: string, at: number): Place {
    const place = this.add(key, undefined);
    this.#reset(place, at);
    return place;
  }

  /** Makes `key` known at `place`, before replace(). @throws `ERR_LIMITER_MEMORY`; then nothing has changed. */
  override announce(place: Place, key: string): void {
    super.announce(place, key);
  }

  override withdraw(key: string): void {
    super.withdraw(key);
  }

  /** Replaces the record at `place` by one with nothing used, of a key for which announce() was called. */
  replace(place: Place, key: string, at: number): void {
    if (this.#unmoved > 0) this.#moveUp(place);
    this.takeOver(place, key);
    this.#reset(place, at);
  }

  override delete(key: string): boolean {
    if (this.#unmoved > 0) {
      const place = this.find(key);
      if (place === undefined) return false;
      this.#moveUp(place);
      if (this.#unmoved > 0) this.#moveUp(this.size - 1);
    }
    return super.delete(key);
  }

  override clear(): void {
    super.clear();
    this.#unmoved = 0;
    this.#forgetIfMoved();
  }

  protected override resize(length: number): void {
    for (let place = 0; place < this.size && this.#unmoved > 0; place += 1) this.#moveUp(place);
    super.resize(length);
  }

  #reset(place: Place, at: number): void {
    if (this.#arrays !== undefined) this.#arrays[place] = this.#older.length;
    const base = place * this.width;
    this.doubles.fill(0, base, base + this.width);
    this.doubles[base] = at;
  }

  /** Moves a record to the current array, unless it is there. */
  #moveUp(place: Place): void {
    const arrays = this.#arrays as Uint8Array;
    const from = this.#older[arrays[place] as number];
    if (from === undefined) return;
    for (let i = 0; i < from.width; i += 1) {
      this.doubles[place * this.width + i] = from.doubles[place * from.width + i] as number;
    }
    arrays[place] = this.#older.length;
    this.#unmoved -= 1;
    this.#forgetIfMoved();
  }

  #forgetIfMoved(): void {
    if (this.#unmoved > 0) return;
    this.#older = [];
    this.#arrays = undefined;
  }
}
