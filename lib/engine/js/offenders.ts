// Offenders stores the peers with violations or a ban: their violations, their keys and the order in which they
// offended. An offender has a record in the limiter's table, unless it has a ban. All bans last equally long; the limiter
// decides when one is over. Counterpart of native/limiters/offenders.h.

import type { BansInForce, SnapshotPeer } from '../../common/types.js';
import { elapsed, NEVER } from '../../tables/arithmetic.js';
import { MOST_NOTE, type Place } from '../../tables/table.js';
import { Bans } from './bans.js';
import { COST_OF_BANNED, costOfClean, costOfOffender, type EvictionCost } from './eviction-cost.js';
import type { Pass } from './sweep.js';
import { Violators } from './violators.js';

/**
 * The note that the peers' table stores with each record, so that eviction need not look up violations: 0 without
 * violations, their number, MANY if that number is too large for a note, or BAN if there is a ban, in force or over.
 */
const BAN = MOST_NOTE;
const MANY = MOST_NOTE - 1;

/** longestBans() sorts when it has collected so many bans, or twice as many as it returns, if that is more. */
const LEAST_COLLECTED = 1000;

export class Offenders extends Violators {
  readonly bans = new Bans();

  /**
   * Counts a violation and returns the peer's violations. `place` is the peer's place in the table of peers, undefined
   * if it has none. One look-up if the peer has violations.
   */
  addViolation(key: string, text: string, place: Place | undefined): number {
    const violations = this.countAnother(key);
    if (violations === 0) {
      this.setViolations(key, text, 0, 1);
      return 1;
    }
    if (place !== undefined && this.peers.noteAt(place) !== BAN) {
      this.peers.setNote(place, Math.min(violations, MANY));
    }
    return violations;
  }

  /**
   * Raises the peer's violations to at least `violations`. If `began` is an instant, also begins a ban at that time or
   * extends the peer's ban to it.
   */
  restore(key: string, text: string, violations: number, began: number): void {
    const before = this.violations(key);
    if (violations > before) this.setViolations(key, text, before, violations);
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
    const note = this.peers.noteAt(place);
    if (note === 0) return costOfClean(secondsUntilFresh);
    if (note < MANY) return costOfOffender(note, idleSeconds);
    if (this.isCertainlyBanned(place, now, banDuration)) return COST_OF_BANNED;
    const key = this.peers.keyAt(place);
    if (note === MANY) return costOfOffender(this.violations(key), idleSeconds);
    const isOver = elapsed(now, this.bans.beganAt(key)) >= banDuration;
    return isOver ? costOfClean(secondsAfterBan) : COST_OF_BANNED;
  }

  /** Whether the note of a record is enough to know that its peer is banned. False does not mean that it is not. */
  isCertainlyBanned(place: Place, now: number, banDuration: number): boolean {
    return this.peers.noteAt(place) === BAN && !this.bans.mayAnyBeOver(now, banDuration);
  }

  /** Begins a ban of a peer that has none. */
  beginBan(key: string, text: string, now: number): void {
    const own = this.peers.ownKey(key);
    this.addOffence(key, text, (order) => this.bans.insert(own, now, order));
    this.#setNote(key, BAN);
  }

  /** Removes a ban but keeps the violations. */
  liftBan(key: string): void {
    if (!this.bans.remove(key)) return;
    const violations = this.violations(key);
    if (violations === 0) this.removeKey(key);
    this.#setNote(key, Math.min(violations, MANY));
  }

  /** Removes violations and ban. */
  forgive(key: string): void {
    const hadViolations = this.removeViolations(key);
    const hadBan = this.bans.remove(key);
    if (!hadViolations && !hadBan) return;
    this.removeKey(key);
    this.#setNote(key, 0);
  }

  override clear(): void {
    super.clear();
    this.bans.clear();
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

  /** Keys of the bans in force with a stored key, in the order in which the bans began. */
  bannedKeys(now: number, banDuration: number): string[] {
    const banned: [key: string, began: number][] = [];
    for (const [key, place] of this.bans.entries()) {
      const began = this.bans.began(place);
      if (elapsed(now, began) < banDuration && this.isNamed(key)) banned.push([key, began]);
    }
    banned.sort(([, a], [, b]) => a - b);
    return banned.map(([key]) => this.textOf(key));
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
      if (most > 0 && this.isNamed(key)) kept.push([key, began, count]);
      // Entries mostly come in order. So sorting now and then costs a pass less than a heap would.
      if (kept.length === Math.max(LEAST_COLLECTED, 2 * most)) keepLongest();
    }
    keepLongest();
    const bans = kept.map(([key, began]): [string, number] => {
      return [this.textOf(key), banDuration - elapsed(now, began)];
    });
    return { count, bans };
  }

  /**
   * Keys of offenders that are not newer than `order`: those with violations in the order of their first violations,
   * then those with only a ban in the order of their bans. Offenders may be added and removed between two keys.
   */
  *inOrder(order: number): Generator<string> {
    yield* this.violatorsInOrder(order);
    for (const [key, place] of this.bans.entries()) {
      if (this.bans.order(place) > order) break;
      const first = this.orderOf(key);
      if (first === undefined || first > order) yield key;
    }
  }

  /**
   * Whether the offender's first violation and its ban, if it has them, both came after `order` was the last order. If
   * not, it has been an offender since before then.
   */
  isNewerThan(key: string, order: number): boolean {
    const first = this.orderOf(key);
    if (first !== undefined && first <= order) return false;
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
    if ((violations === 0 && began === NEVER) || !this.isNamed(key)) return undefined;
    if (began === NEVER) return { key: this.textOf(key), violations, banSecondsLeft: null };
    const served = elapsed(now, began);
    if (!(served < banDuration)) return undefined;
    return { key: this.textOf(key), violations, banSecondsLeft: banDuration - served };
  }

  protected override setViolations(
    key: string,
    text: string,
    before: number,
    violations: number,
  ): void {
    super.setViolations(key, text, before, violations);
    this.#setNote(key, this.bans.beganAt(key) === NEVER ? Math.min(violations, MANY) : BAN);
  }

  protected isPunished(key: string): boolean {
    return this.bans.find(key) !== undefined;
  }

  /** A peer without a record needs no note, because eviction compares only records. */
  #setNote(key: string, note: number): void {
    const place = this.peers.find(key);
    if (place !== undefined) this.peers.setNote(place, note);
  }
}
