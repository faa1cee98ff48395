// Offenders stores the peers with violations or a ban: their violations, their keys and the order in which they
// offended. The limiter decides when a ban is over. Counterpart of native/limiters/offenders.h.
//
// A `key` is what Keys.find returns, and `text` is the peer's key as the user gave it. An offender with a text that is
// not stored (stored-keys.ts) is punished like any other, but no list names it.

import type { BansInForce, SnapshotPeer, Violator } from '../../common/types.js';
import { elapsed, NEVER } from '../../tables/arithmetic.js';
import { MOST_NOTE, type Place, Table } from '../../tables/table.js';
import { Bans } from './bans.js';
import { Sum, saturatedSum } from './counts.js';
import { COST_OF_BANNED, costOfClean, costOfOffender, type EvictionCost } from './eviction-cost.js';
import { reserveStack } from './stack.js';
import { StoredKeys } from './stored-keys.js';
import type { Pass } from './sweep.js';
import { TopViolators } from './top-violators.js';

/**
 * The note that the peers' table stores with each record, so that eviction need not look up violations: 0 without
 * violations, their number, MANY if that number is too large for a note, or BAN if there is a ban, in force or over.
 */
const BAN = MOST_NOTE;
const MANY = MOST_NOTE - 1;

/** longestBans() sorts when it has collected so many bans, or twice as many as it returns, if that is more. */
const LEAST_COLLECTED = 1000;

// A record is two doubles: the number of violations, at least 1, and the position in the order of first violations.
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

export class Offenders {
  readonly bans = new Bans();
  /** In the order of first violations. */
  readonly #violations = new Violations();
  readonly #keys: StoredKeys;
  readonly #top = new TopViolators();
  /** The number of offenders with violations and a stored key. */
  #violators = 0;
  /** The violations of all offenders. */
  readonly #totalViolations = new Sum();
  #lastOrder = 0;
  readonly #peers: Table;

  /** `peers` is the limiter's table: an offender has a record there, unless it has a ban. */
  constructor(maxPeers: number, peers: Table) {
    this.#keys = new StoredKeys(maxPeers);
    this.#peers = peers;
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

  /** Counts a violation and returns the peer's violations. */
  addViolation(key: string, text: string): number {
    const before = this.violations(key);
    const violations = saturatedSum(before, 1);
    this.#setViolations(key, text, before, violations);
    return violations;
  }

  /**
   * Raises the peer's violations to at least `violations`. If `began` is an instant, also begins a ban at that time or
   * extends the peer's ban to it.
   */
  restore(key: string, text: string, violations: number, began: number): void {
    const before = this.violations(key);
    if (violations > before) this.#setViolations(key, text, before, violations);
    // The ban is last, so that a failure means that no ban was added. Callers count bans.
    if (began > NEVER && !this.bans.extend(key, began)) this.beginBan(key, text, began);
  }

  /**
   * The cost of evicting a peer that would be fresh after `secondsUntilFresh` if it were no offender, and after
   * `secondsAfterBan` if it has a ban that is over. The next check removes such a ban and its violations, so nothing is
   * lost with them. `place` is the peer's place in the table of peers, undefined if it has none.
   */
  evictionCostOf(
    place: Place | undefined,
    secondsUntilFresh: number,
    secondsAfterBan: number,
    idleSeconds: number,
    now: number,
    banDuration: number,
  ): EvictionCost {
    if (place === undefined) return costOfClean(secondsUntilFresh);
    const note = this.#peers.noteAt(place);
    if (note === 0) return costOfClean(secondsUntilFresh);
    if (note < MANY) return costOfOffender(note, idleSeconds);
    if (this.isCertainlyBanned(place, now, banDuration)) return COST_OF_BANNED;
    const key = this.#peers.keyAt(place);
    if (note === MANY) return costOfOffender(this.violations(key), idleSeconds);
    const isOver = elapsed(now, this.bans.beganAt(key)) >= banDuration;
    return isOver ? costOfClean(secondsAfterBan) : COST_OF_BANNED;
  }

  /** Whether the note of a record is enough to know that its peer is banned. False does not mean that it is not. */
  isCertainlyBanned(place: Place, now: number, banDuration: number): boolean {
    return this.#peers.noteAt(place) === BAN && !this.bans.mayAnyBeOver(now, banDuration);
  }

  /** Begins a ban of a peer that has none. */
  beginBan(key: string, text: string, now: number): void {
    this.#addOffence(key, text, (own) => this.bans.insert(own, now, this.#lastOrder + 1));
    this.#lastOrder += 1;
    this.#setNote(key, BAN);
  }

  /** Removes a ban but keeps the violations. */
  liftBan(key: string): void {
    if (!this.bans.remove(key)) return;
    const violations = this.violations(key);
    if (violations === 0) this.#keys.remove(key);
    this.#setNote(key, Math.min(violations, MANY));
  }

  /** Removes violations and ban. */
  forgive(key: string): void {
    const hadViolations = this.#removeViolations(key);
    const hadBan = this.bans.remove(key);
    if (!hadViolations && !hadBan) return;
    this.#keys.remove(key);
    this.#setNote(key, 0);
  }

  clear(): void {
    this.#violations.clear();
    this.bans.clear();
    this.#keys.clear();
    this.#top.clear();
    this.#violators = 0;
    this.#totalViolations.clear();
  }

  /** Whether it is certain, without a search, that all of so many peers are banned. */
  areAllBanned(peers: number, now: number, banDuration: number): boolean {
    return this.bans.size >= peers && !this.bans.mayAnyBeOver(now, banDuration);
  }

  /** A pass of a sweep over all bans: forgives the peers for which `expire` returns true. */
  banPass(expire: (key: string, place: Place) => boolean): Pass {
    return this.bans.pass((key, place) => {
      if (!expire(key, place)) return false;
      this.forgive(key);
      return true;
    });
  }

  /**
   * The offenders with the most violations, ordered by violations, then by the first violation. Only offenders with a
   * stored key are included.
   */
  topViolators(): Violator[] {
    if (!this.#top.isComplete(this.#violators)) this.#recount();
    return this.#top.keys().map((key) => [this.#keys.textOf(key), this.violations(key)]);
  }

  /** Keys of the bans in force with a stored key, in the order in which the bans began. */
  bannedKeys(now: number, banDuration: number): string[] {
    const banned: [key: string, began: number][] = [];
    for (const [key, place] of this.bans.entries()) {
      const began = this.bans.began(place);
      if (elapsed(now, began) < banDuration && this.#keys.has(key)) banned.push([key, began]);
    }
    banned.sort(([, a], [, b]) => a - b);
    return banned.map(([key]) => this.#keys.textOf(key));
  }

  /**
   * The number of bans in force, and up to `most` of those with a stored key, the longest remaining time first. Takes
   * memory for about twice `most` bans.
   */
  longestBans(most: number, now: number, banDuration: number): BansInForce {
    let count = 0;
    let kept: [key: string, began: number, order: number][] = [];
    const keepLongest = () => {
      kept.sort((a, b) => b[1] - a[1] || b[2] - a[2]);
      kept = kept.slice(0, most);
    };
    for (const [key, place] of this.bans.entries()) {
      const began = this.bans.began(place);
      if (!(elapsed(now, began) < banDuration)) continue;
      count += 1;
      if (most > 0 && this.#keys.has(key)) kept.push([key, began, count]);
      // Entries mostly come in order. So sorting now and then costs a pass less than a heap would.
      if (kept.length === Math.max(LEAST_COLLECTED, 2 * most)) keepLongest();
    }
    keepLongest();
    const bans = kept.map(([key, began]): [string, number] => {
      return [this.#keys.textOf(key), banDuration - elapsed(now, began)];
    });
    return { count, bans };
  }

  /** The order of the latest first violation or ban. Later ones get a higher order. */
  get lastOrder(): number {
    return this.#lastOrder;
  }

  /**
   * Keys of offenders that are not newer than `order`: those with violations in the order of their first violations,
   * then those with only a ban in the order of their bans. Offenders may be added and removed between two keys.
   */
  *inOrder(order: number): Generator<string> {
    for (const [key, place] of this.#violations.entries()) {
      if (this.#violations.order(place) > order) break;
      yield key;
    }
    for (const [key, place] of this.bans.entries()) {
      if (this.bans.order(place) > order) break;
      const violations = this.#violations.find(key);
      if (violations === undefined || this.#violations.order(violations) > order) yield key;
    }
  }

  /**
   * Whether the offender's first violation and its ban, if it has them, both came after `order` was the last order. If
   * not, it has been an offender since before then.
   */
  isNewerThan(key: string, order: number): boolean {
    const violations = this.#violations.find(key);
    if (violations !== undefined && this.#violations.order(violations) <= order) return false;
    const ban = this.bans.find(key);
    return ban === undefined || this.bans.order(ban) > order;
  }

  /**
   * What a snapshot stores of an offender. Undefined if the peer is no offender, if its key is not stored, or if its
   * ban is over.
   */
  findForSnapshot(
    key: string,
    now: number,
    banDuration: number,
  ): Pick<SnapshotPeer, 'key' | 'violations' | 'banSecondsLeft'> | undefined {
    const violations = this.violations(key);
    const began = this.bans.beganAt(key);
    if ((violations === 0 && began === NEVER) || !this.#keys.has(key)) return undefined;
    if (began === NEVER) return { key: this.#keys.textOf(key), violations, banSecondsLeft: null };
    const served = elapsed(now, began);
    if (!(served < banDuration)) return undefined;
    return { key: this.#keys.textOf(key), violations, banSecondsLeft: banDuration - served };
  }

  #recount(): void {
    reserveStack();
    let others = 0;
    this.#top.clear();
    for (const [key, place] of this.#violations.entries()) {
      if (!this.#keys.has(key)) continue;
      const violations = this.#violations.count(place);
      this.#top.count(key, violations, this.#violations.order(place), others);
      others += 1;
    }
  }

  #setViolations(key: string, text: string, before: number, violations: number): void {
    if (before === 0) {
      this.#addOffence(key, text, (own) => this.#violations.insert(own, this.#lastOrder + 1));
      this.#lastOrder += 1;
      if (this.#keys.has(key)) this.#violators += 1;
    }
    const place = this.#violations.find(key) as Place;
    this.#violations.setCount(place, violations);
    this.#totalViolations.add(violations - before);
    if (this.#keys.has(key)) {
      const own = this.#violations.keyAt(place);
      this.#top.count(own, violations, this.#violations.order(place), this.#violators - 1);
    }
    this.#setNote(key, this.bans.beganAt(key) === NEVER ? Math.min(violations, MANY) : BAN);
  }

  #removeViolations(key: string): boolean {
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

  /** A peer without a record needs no note, because eviction compares only records. */
  #setNote(key: string, note: number): void {
    const place = this.#peers.find(key);
    if (place !== undefined) this.#peers.setNote(place, note);
  }

  /** Calls `insert` with the key to store. Stores the text too if the peer was no offender, unless `insert` throws. */
  #addOffence(key: string, text: string, insert: (key: string) => void): void {
    const isNew = !this.#isOffender(key);
    if (isNew) this.#keys.add(key, text);
    try {
      insert(this.#peers.ownKey(key));
    } catch (error) {
      if (isNew) this.#keys.remove(key);
      throw error;
    }
  }

  #isOffender(key: string): boolean {
    return this.#violations.find(key) !== undefined || this.bans.find(key) !== undefined;
  }
}
