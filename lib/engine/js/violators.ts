// Violators counts the violations of peers, stores the keys of offenders, and lists the peers with the most violations.
// A subclass adds what else makes a peer an offender: its bans. Counterpart of native/limiters/offenders.h.
//
// A `key` is what Keys.find returns, and `text` is the peer's key as the user gave it. An offender with a text that is
// not stored (stored-keys.ts) is punished like any other, but no list names it.

import type { Violator } from '../../common/types.js';
import { type Place, Table } from '../../tables/table.js';
import { Sum, saturatedSum } from './counts.js';
import { reserveStack } from './stack.js';
import { StoredKeys } from './stored-keys.js';
import { TopViolators } from './top-violators.js';

// A record is two doubles: the number of violations, and the position in the order of first violations.
const DOUBLES = 2;

class Violations extends Table {
  constructor() {
    super(DOUBLES);
  }

  insert(key: string, order: number): void {
    const place = this.add(key, undefined);
    this.doubles[place * DOUBLES] = 0;
    this.doubles[place * DOUBLES + 1] = order;
  }

  count(place: Place): number {
    return this.doubles[place * DOUBLES] as number;
  }

  setCount(place: Place, count: number): void {
    this.doubles[place * DOUBLES] = count;
  }

  order(place: Place): number {
    return this.doubles[place * DOUBLES + 1] as number;
  }
}

export abstract class Violators {
  protected readonly peers: Table;
  /** In the order of first violations. */
  readonly #violations = new Violations();
  readonly #keys: StoredKeys;
  readonly #top = new TopViolators();
  /** The number of offenders with violations and a stored key. */
  #violators = 0;
  /** The violations of all offenders. */
  readonly #totalViolations = new Sum();
  #lastOrder = 0;

  /** `peers` is the limiter's table. */
  constructor(maxPeers: number, peers: Table) {
    this.#keys = new StoredKeys(maxPeers);
    this.peers = peers;
  }

  /** The number of offenders without a stored key. */
  get unnamed(): number {
    return this.#keys.missing;
  }

  get totalViolations(): number {
    return this.#totalViolations.value;
  }

  violations(key: string): number {
    const place = this.#violations.find(key);
    return place === undefined ? 0 : this.#violations.count(place);
  }

  /** Whether lists name the offender. */
  isNamed(key: string): boolean {
    return this.#keys.has(key);
  }

  /** The text of an offender that lists name. */
  textOf(key: string): string {
    return this.#keys.textOf(key);
  }

  /**
   * The offenders with the most violations, ordered by violations, then by the first violation. Only offenders with a
   * stored key are included.
   */
  topViolators(): Violator[] {
    if (!this.#top.isComplete(this.#violators)) this.#recount();
    return this.#top.keys().map((key) => [this.#keys.textOf(key), this.violations(key)]);
  }

  /** The order of the latest first violation or ban. Later ones get a higher order. */
  get lastOrder(): number {
    return this.#lastOrder;
  }

  clear(): void {
    this.#violations.clear();
    this.#keys.clear();
    this.#top.clear();
    this.#violators = 0;
    this.#totalViolations.clear();
  }

  /** Whether the peer is an offender even without violations. */
  protected abstract isPunished(key: string): boolean;

  /** The order of the peer's first violation; undefined if it has no violations. */
  protected orderOf(key: string): number | undefined {
    const place = this.#violations.find(key);
    return place === undefined ? undefined : this.#violations.order(place);
  }

  /** Keys with violations in the order of their first violations, if that is at most `order`. */
  protected *violatorsInOrder(order: number): Generator<string> {
    for (const [key, place] of this.#violations.entries()) {
      if (this.#violations.order(place) > order) break;
      yield key;
    }
  }

  protected setViolations(key: string, text: string, before: number, violations: number): void {
    if (before === 0) this.addViolator(key, text);
    this.raise(key, before, violations);
  }

  /** Counts another violation of a peer and returns its violations; 0 if it has none, and then counts nothing. */
  protected countAnother(key: string): number {
    const place = this.#violations.find(key);
    if (place === undefined) return 0;
    const before = this.#violations.count(place);
    const violations = saturatedSum(before, 1);
    this.#raiseAt(place, key, before, violations);
    return violations;
  }

  /** Raises the violations of a peer for which addViolator() was called before. */
  protected raise(key: string, before: number, violations: number): void {
    this.#raiseAt(this.#violations.find(key) as Place, key, before, violations);
  }

  #raiseAt(place: Place, key: string, before: number, violations: number): void {
    this.#violations.setCount(place, violations);
    this.#totalViolations.add(violations - before);
    if (!this.#keys.has(key)) return;
    const own = this.#violations.keyAt(place);
    this.#top.count(own, violations, before, this.#violations.order(place), this.#violators - 1);
  }

  /**
   * Adds a peer without violations, with the number 0. `own` is the key to store. @throws `ERR_LIMITER_MEMORY` as
   * `Table.add` does; then nothing has changed.
   */
  protected addViolator(key: string, text: string, own = this.peers.ownKey(key)): void {
    this.addOffence(key, text, (order) => this.#violations.insert(own, order));
    if (this.#keys.has(key)) this.#violators += 1;
  }

  /** Removes the violations, but not the stored key. False if the peer has no violations. */
  protected removeViolations(key: string): boolean {
    const place = this.#violations.find(key);
    if (place === undefined) return false;
    const violations = this.#violations.count(place);
    if (this.#keys.has(key)) {
      this.#violators -= 1;
      this.#top.remove(violations, this.#violations.order(place));
    }
    this.#totalViolations.subtract(violations);
    return this.#violations.delete(key);
  }

  /** Calls `insert` with the next order. Stores the text too if the peer was no offender, unless `insert` throws. */
  protected addOffence(key: string, text: string, insert: (order: number) => void): void {
    const isNew = this.#violations.find(key) === undefined && !this.isPunished(key);
    if (isNew) this.#keys.add(key, text);
    try {
      insert(this.#lastOrder + 1);
    } catch (error) {
      if (isNew) this.#keys.remove(key);
      throw error;
    }
    this.#lastOrder += 1;
  }

  /** Call this when a peer is no offender any more. */
  protected removeKey(key: string): void {
    this.#keys.remove(key);
  }

  #recount(): void {
    reserveStack();
    let others = 0;
    this.#top.clear();
    for (const [key, place] of this.#violations.entries()) {
      if (!this.#keys.has(key)) continue;
      const violations = this.#violations.count(place);
      this.#top.count(key, violations, 0, this.#violations.order(place), others);
      others += 1;
    }
  }
}
