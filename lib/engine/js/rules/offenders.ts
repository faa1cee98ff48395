// RuleOffenders stores what a scope knows of its offenders besides their buckets: violations (Violators), and the levels
// and bans that violations lead to. Each offender has a record in the scope's table. Counterpart of
// native/limiters/rules/offenders.h.

import type { BansInForce } from '../../../common/types.js';
import { NEVER } from '../../../tables/arithmetic.js';
import { MOST_NOTE, type Place, type Table } from '../../../tables/table.js';
import type { RuleBanConfig } from '../../rules.js';
import {
  COST_OF_BANNED,
  costOfClean,
  costOfOffender,
  type EvictionCost,
} from '../eviction-cost.js';
import { type Pass, pass } from '../sweep.js';
import { Violators } from '../violators.js';
import { BAN_LEVEL, END, LEVEL, LEVEL_AT, ORDER, Punishments } from './punishments.js';
import { NOW } from './rates.js';

/**
 * The note that the records' table stores with each record, so that most checks and evictions need no other look-up: 0
 * without violations, their number, MANY if that number is too large for a note, or BAN if there is a ban, in force or
 * over.
 */
const BAN = MOST_NOTE;
const MANY = MOST_NOTE - 1;

/** longestBans() sorts when it has collected so many bans, or twice as many as it returns, if that is more. */
const LEAST_COLLECTED = 1000;

/** What has been added for an offence, so that it can be undone. */
export const ADDED_VIOLATOR = 1;
export const ADDED_PUNISHMENT = 2;

/** The levels and the end of the last ban of an offender. */
export interface Punishment {
  readonly level: number;
  readonly banLevel: number;
  /** NEVER without a ban. */
  readonly end: number;
}

const NO_PUNISHMENT: Punishment = { level: 0, banLevel: 0, end: NEVER };

export class RuleOffenders extends Violators {
  readonly #punishments = new Punishments();
  /** The number of records with the note BAN. */
  #noted = 0;
  /** No ban with a note ends before this instant. It is exact after a sweep. */
  #earliestEnd = Infinity;
  /** The earliest end among the bans that the current sweep has found and those that began after it did. */
  #earliestSwept = Infinity;
  /** A sweep takes the notes of bans that are over. At an earlier instant a ban without a note may be in force. */
  #sweptAt = NEVER;
  readonly #clock: Float64Array;

  /** `clock` is Rates.clock. */
  constructor(maxPeers: number, records: Table, clock: Float64Array) {
    super(maxPeers, records);
    this.#clock = clock;
  }

  /** False if the peer at `place` in the records' table certainly has no ban in force now. */
  mayBeBanned(place: Place): boolean {
    return this.peers.noteAt(place) === BAN || (this.#clock[NOW] as number) < this.#sweptAt;
  }

  /** The seconds until a ban ends; 0 without one. */
  banSecondsLeft(key: string, now: number): number {
    const end = this.#endOf(key);
    return now < end ? end - now : 0;
  }

  /**
   * Adds what is missing to count a violation or to store a level or a ban, and returns what it has added: ADDED_VIOLATOR
   * and ADDED_PUNISHMENT. `own` is the key to store. @throws `ERR_LIMITER_MEMORY` as `Table.add` does; then nothing has
   * changed.
   */
  add(
    key: string,
    text: string,
    own: string,
    needsViolator: boolean,
    needsPunishment: boolean,
  ): number {
    let added = 0;
    if (needsViolator && this.violations(key) === 0) {
      this.addViolator(key, text, own);
      added |= ADDED_VIOLATOR;
    }
    if (needsPunishment && this.#punishments.find(key) === undefined) {
      try {
        this.addOffence(key, text, (order) => this.#punishments.insert(own, order));
      } catch (error) {
        this.undo(key, added);
        throw error;
      }
      added |= ADDED_PUNISHMENT;
    }
    return added;
  }

  undo(key: string, added: number): void {
    if (added & ADDED_PUNISHMENT) this.#punishments.delete(key);
    if (added & ADDED_VIOLATOR) this.removeViolations(key);
    if (added !== 0 && !this.#isStored(key)) this.removeKey(key);
  }

  /** Raises the violations of a peer for which add() was called. */
  raiseViolations(key: string, violations: number): void {
    const before = this.violations(key);
    if (!(violations > before)) return;
    this.raise(key, before, violations);
    this.#setNote(key);
  }

  /**
   * Counts a violation for the ban of a peer for which add() was called. Returns the length of the ban that begins; 0 if
   * none does.
   */
  punish(key: string, policy: RuleBanConfig, random: number, now: number): number {
    const place = this.#punishments.find(key) as Place;
    const punishments = this.#punishments;
    const level = this.#punishments.level(place, policy, now) + 1;
    punishments.set(place, LEVEL_AT, Math.max(punishments.get(place, LEVEL_AT), now));
    if (!(level >= policy.violations)) {
      punishments.set(place, LEVEL, level);
      return 0;
    }
    punishments.set(place, LEVEL, 0);
    const n = this.#punishments.banLevel(place, policy, now);
    punishments.set(place, BAN_LEVEL, n + 1);
    const { seconds, jitter } = policy;
    const step = seconds[Math.min(n, seconds.length - 1)] as number;
    const length = step * (1 + jitter * (2 * random - 1));
    this.#setEnd(key, place, now + length);
    return length;
  }

  /** Makes the ban of a peer for which add() was called end at `end` or later. */
  extendBan(key: string, end: number): void {
    const place = this.#punishments.find(key) as Place;
    if (end > this.#punishments.get(place, END)) this.#setEnd(key, place, end);
  }

  /**
   * Bans a peer by hand, for which add() was called. What is forgotten of its ban level by now stays forgotten, although
   * its last ban ends later than before.
   */
  ban(key: string, end: number, policy: RuleBanConfig | undefined, now: number): void {
    const place = this.#punishments.find(key) as Place;
    if (policy !== undefined) {
      this.#punishments.set(place, BAN_LEVEL, this.#punishments.banLevel(place, policy, now));
    }
    this.extendBan(key, end);
  }

  /** Raises the levels of a peer, if it has any or add() was called for it. `level` is as of now. */
  raiseLevels(
    key: string,
    level: number,
    banLevel: number,
    policy: RuleBanConfig | undefined,
    now: number,
  ): void {
    const punishments = this.#punishments;
    const place = punishments.find(key);
    if (place === undefined) return;
    punishments.set(place, LEVEL, Math.max(this.#punishments.level(place, policy, now), level));
    punishments.set(place, LEVEL_AT, Math.max(punishments.get(place, LEVEL_AT), now));
    punishments.set(place, BAN_LEVEL, Math.max(punishments.get(place, BAN_LEVEL), banLevel));
  }

  /** Ends a ban in force; false if the key is not banned. */
  endBan(key: string, now: number): boolean {
    if (!(now < this.#endOf(key))) return false;
    this.#punishments.set(this.#punishments.find(key) as Place, END, now);
    this.#earliestEnd = Math.min(this.#earliestEnd, now);
    this.#earliestSwept = Math.min(this.#earliestSwept, now);
    return true;
  }

  /** The punishment of a peer, the level as of now. */
  punishmentOf(key: string, policy: RuleBanConfig | undefined, now: number): Punishment {
    const place = this.#punishments.size === 0 ? undefined : this.#punishments.find(key);
    if (place === undefined) return NO_PUNISHMENT;
    return {
      level: this.#punishments.level(place, policy, now),
      banLevel: this.#punishments.get(place, BAN_LEVEL),
      end: this.#punishments.get(place, END),
    };
  }

  /** Whether a ban is in force, or a level or a ban level would be lost with the peer. */
  isRemembered(key: string, policy: RuleBanConfig | undefined, now: number): boolean {
    const place = this.#punishments.size === 0 ? undefined : this.#punishments.find(key);
    if (place === undefined) return false;
    if (now < this.#punishments.get(place, END)) return true;
    if (policy === undefined) return false;
    if (this.#punishments.level(place, policy, now) > 0) return true;
    return (
      policy.forgetAfterSeconds < Infinity && this.#punishments.banLevel(place, policy, now) > 0
    );
  }

  /** The cost of evicting the peer at `place` in the records' table. */
  evictionCostOf(
    place: Place,
    secondsUntilFresh: number,
    idleSeconds: number,
    now: number,
  ): EvictionCost {
    const note = this.peers.noteAt(place);
    const isExact = note < MANY && !(now < this.#sweptAt);
    if (isExact)
      return note === 0 ? costOfClean(secondsUntilFresh) : costOfOffender(note, idleSeconds);
    if (this.isCertainlyBanned(place, now)) return COST_OF_BANNED;
    const key = this.peers.keyAt(place);
    if (now < this.#endOf(key)) return COST_OF_BANNED;
    const violations = this.violations(key);
    return violations === 0
      ? costOfClean(secondsUntilFresh)
      : costOfOffender(violations, idleSeconds);
  }

  /** Whether the note of a record is enough to know that its peer is banned. False does not mean that it is not. */
  isCertainlyBanned(place: Place, now: number): boolean {
    return this.peers.noteAt(place) === BAN && now < this.#earliestEnd;
  }

  /** Whether it is certain, without a search, that all peers are banned. */
  areAllBanned(now: number): boolean {
    return this.#noted >= this.peers.size && now < this.#earliestEnd;
  }

  /** Removes violations, levels and ban. Call this before the peer's record is removed. */
  forgive(key: string): void {
    const place = this.peers.find(key);
    if (place !== undefined) {
      if (this.peers.noteAt(place) === BAN) this.#removeNote();
      this.peers.setNote(place, 0);
    }
    const hadViolations = this.removeViolations(key);
    const wasPunished = this.#punishments.size > 0 && this.#punishments.delete(key);
    if (hadViolations || wasPunished) this.removeKey(key);
  }

  override clear(): void {
    super.clear();
    this.#punishments.clear();
    this.#noted = 0;
    this.#earliestEnd = Infinity;
  }

  /** A pass of a sweep over all punishments, which takes the notes of bans that are over. */
  pass(now: number): Pass {
    const visit = (key: string, place: Place) => {
      const record = this.peers.find(key) as Place;
      if (this.peers.noteAt(record) !== BAN) return false;
      const end = this.#punishments.get(place, END);
      if (now < end) {
        this.#earliestSwept = Math.min(this.#earliestSwept, end);
      } else {
        this.#sweptAt = Math.max(this.#sweptAt, now);
        this.#removeNote();
        this.peers.setNote(record, Math.min(this.violations(key), MANY));
      }
      return false;
    };
    const { size, entries } = pass(this.#punishments, visit);
    const begin = () => {
      this.#earliestSwept = Infinity;
      return entries();
    };
    const end = () => {
      this.#earliestEnd = this.#earliestSwept;
    };
    return { size, entries: begin, visit: visit as Pass['visit'], end };
  }

  /** As Offenders.longestBans, but equal ends are in the order of the keys. */
  longestBans(most: number, now: number): BansInForce {
    let count = 0;
    let kept: [key: string, end: number][] = [];
    const keepLongest = () => {
      kept.sort(([a, endOfA], [b, endOfB]) => {
        if (endOfA !== endOfB) return endOfB - endOfA;
        return this.textOf(a) < this.textOf(b) ? -1 : 1;
      });
      kept = kept.slice(0, most);
    };
    for (const [key, place] of this.#punishments.entries()) {
      const end = this.#punishments.get(place, END);
      if (!(now < end)) continue;
      count += 1;
      if (most > 0 && this.isNamed(key)) kept.push([key, end]);
      if (kept.length === Math.max(LEAST_COLLECTED, 2 * most)) keepLongest();
    }
    keepLongest();
    const bans = kept.map(([key, end]): [string, number] => [this.textOf(key), end - now]);
    return { count, bans };
  }

  /** Whether the peer at `place` has violations or a ban in force, and lists name it. */
  isListed(place: Place, key: string, now: number): boolean {
    const isClean = this.peers.noteAt(place) === 0 && !(now < this.#sweptAt);
    if (isClean || !this.isNamed(key)) return false;
    return this.violations(key) > 0 || now < this.#endOf(key);
  }

  /** As Offenders.inOrder. */
  *inOrder(order: number): Generator<string> {
    yield* this.violatorsInOrder(order);
    for (const [key, place] of this.#punishments.entries()) {
      if (this.#punishments.get(place, ORDER) > order) break;
      const first = this.orderOf(key);
      if (first === undefined || first > order) yield key;
    }
  }

  /** As Offenders.isNewerThan. */
  isNewerThan(key: string, order: number): boolean {
    const first = this.orderOf(key);
    if (first !== undefined && first <= order) return false;
    const place = this.#punishments.find(key);
    return place === undefined || this.#punishments.get(place, ORDER) > order;
  }

  protected isPunished(key: string): boolean {
    return this.#punishments.find(key) !== undefined;
  }

  #isStored(key: string): boolean {
    return this.orderOf(key) !== undefined || this.isPunished(key);
  }

  #endOf(key: string): number {
    const place = this.#punishments.size === 0 ? undefined : this.#punishments.find(key);
    return place === undefined ? NEVER : this.#punishments.get(place, END);
  }

  #setEnd(key: string, place: Place, end: number): void {
    this.#punishments.set(place, END, end);
    this.#earliestEnd = Math.min(this.#earliestEnd, end);
    this.#earliestSwept = Math.min(this.#earliestSwept, end);
    const record = this.peers.find(key) as Place;
    if (this.peers.noteAt(record) === BAN) return;
    this.#noted += 1;
    this.peers.setNote(record, BAN);
  }

  #setNote(key: string): void {
    const record = this.peers.find(key) as Place;
    if (this.peers.noteAt(record) === BAN) return;
    this.peers.setNote(record, Math.min(this.violations(key), MANY));
  }

  #removeNote(): void {
    this.#noted -= 1;
    if (this.#noted === 0) this.#earliestEnd = Infinity;
  }
}
