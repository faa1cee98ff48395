// Bans stores when each ban began, whether it is in force or over, and the order in which bans began. How long a ban
// lasts is up to the limiter. Counterpart of native/limiters/bans.h.

import { elapsed, NEVER, secondsLeft } from '../../tables/arithmetic.js';
import { type Place, Table } from '../../tables/table.js';
import type { Pass } from './sweep.js';

// A ban is two doubles: when it began, and its position in the order of bans.
const DOUBLES = 2;

export class Bans extends Table {
  /** No ban began before this instant. It is exact after a sweep; a removed ban may leave it too early. */
  #earliest = Infinity;
  /** The earliest beginning among the bans that the current sweep has kept and those that began after it did. */
  #earliestSwept = Infinity;

  constructor() {
    super(DOUBLES);
  }

  /** When the ban at a place began, in monotonic seconds. */
  began(place: Place): number {
    return this.doubles[place * DOUBLES] as number;
  }

  /** Unique; a ban that began later has a higher one. */
  order(place: Place): number {
    return this.doubles[place * DOUBLES + 1] as number;
  }

  /** When the peer's ban began; NEVER if it has none. Most limiters have no ban, and then there is no look-up. */
  beganAt(key: string): number {
    const place = this.size === 0 ? undefined : this.find(key);
    return place === undefined ? NEVER : this.began(place);
  }

  /** The seconds that the peer's ban has left; 0 if it has none, or one that is over. */
  secondsLeft(key: string, now: number, banDuration: number): number {
    return secondsLeft(banDuration, elapsed(now, this.beganAt(key)));
  }

  /** False only if no ban can be over. True does not mean that one is. */
  mayAnyBeOver(now: number, banDuration: number): boolean {
    return this.size > 0 && elapsed(now, this.#earliest) >= banDuration;
  }

  /** Adds a ban for a peer without one. @throws `ERR_LIMITER_MEMORY` as `Table.add` does. */
  insert(key: string, began: number, order: number): void {
    const place = this.add(key, undefined);
    this.#setBegan(place, began);
    this.doubles[place * DOUBLES + 1] = order;
    this.#earliest = Math.min(this.#earliest, began);
    this.#earliestSwept = Math.min(this.#earliestSwept, began);
  }

  /** Makes a ban end later, if `began` is later than its beginning. False if the peer has no ban. */
  extend(key: string, began: number): boolean {
    const place = this.find(key);
    if (place === undefined) return false;
    this.#setBegan(place, Math.max(this.began(place), began));
    return true;
  }

  /** False if the peer has no ban. */
  remove(key: string): boolean {
    const hadBan = this.delete(key);
    if (hadBan && this.size === 0) this.#earliest = Infinity;
    return hadBan;
  }

  /** A pass of a sweep over all bans. `expire` returns true after it has removed the ban it was called for. */
  pass(expire: (key: string, place: Place) => boolean): Pass {
    return {
      size: this.size,
      entries: () => {
        this.#earliestSwept = Infinity;
        return this.entries();
      },
      visit: (key, value) => {
        const place = value as Place;
        const began = this.began(place);
        if (!expire(key, place)) this.#earliestSwept = Math.min(this.#earliestSwept, began);
        // A sweep counts removed peers, and a ban is not one.
        return false;
      },
      end: () => {
        this.#earliest = this.#earliestSwept;
      },
    };
  }

  override clear(): void {
    super.clear();
    this.#earliest = Infinity;
  }

  #setBegan(place: Place, began: number): void {
    this.doubles[place * DOUBLES] = began;
  }
}
