// ScopeState stores the records of one scope and its offenders, and makes room for new records. A peer is added in steps,
// so that a check can add peers in several scopes or in none: admit() chooses whom to evict, stage() inserts, and only
// commit() evicts. Counterpart of native/limiters/rules/scope.h.

import { elapsed, NEVER } from '../../../tables/arithmetic.js';
import { keep } from '../../../tables/keys.js';
import { MOST_KEYS, type Place } from '../../../tables/table.js';
import type { RuleBanConfig, RuleScopeStatistics } from '../../rules.js';
import { Counters } from '../counters.js';
import { EvictionCandidate, MOST_LOOKED_AT, offerSample } from '../eviction.js';
import { COST_OF_BANNED, type EvictionCost } from '../eviction-cost.js';
import { type FoundRecord, PendingRecords } from '../pending.js';
import { type Pass, pass } from '../sweep.js';
import { RuleOffenders } from './offenders.js';
import type { Rates } from './rates.js';
import { RuleRecords } from './records.js';

/** The place of a peer without a record. */
export const NONE = -1;

/** The key of the only record of a single scope, and its place. */
const SINGLE = '';
const SINGLE_PLACE: Place = 0;

export class ScopeState {
  readonly index: number;
  readonly isSingle: boolean;
  readonly records: RuleRecords;
  readonly offenders: RuleOffenders;
  readonly pending: PendingRecords<RuleRecords>;
  readonly counters = new Counters();
  /** The number of slots that rules use. A record may have more. */
  slots: number;
  policy: RuleBanConfig | undefined;
  /** The place of the key that the current call is about, or NONE. */
  place: Place;
  /** That key, as Keys.find returns it. */
  key = '';
  readonly #maxPeers: number;
  readonly #rates: Rates;
  /** The record that the next stage() replaces, if there is no room for another one. */
  #victim: EvictionCandidate | undefined;
  /** What stage() has added: the key of a new record, and parts of RuleOffenders. */
  #own: string | undefined;
  #added = 0;

  constructor(index: number, isSingle: boolean, slots: number, maxPeers: number, rates: Rates) {
    this.index = index;
    this.isSingle = isSingle;
    this.slots = slots;
    this.#maxPeers = Math.min(maxPeers, MOST_KEYS);
    this.#rates = rates;
    this.records = new RuleRecords(slots);
    this.offenders = new RuleOffenders(maxPeers, this.records, rates.clock);
    this.pending = new PendingRecords(() => new RuleRecords(this.slots));
    if (isSingle) this.records.insert(SINGLE, NEVER);
    this.place = isSingle ? SINGLE_PLACE : NONE;
  }

  /** Whether another pending record may be stored. */
  get hasRoomForPending(): boolean {
    return this.pending.size < this.#maxPeers;
  }

  /** Makes room for more slots in all records. @throws `ERR_LIMITER_MEMORY`; then nothing has changed that matters. */
  widen(slots: number): void {
    this.records.widen(slots);
    for (const { records } of this.pending.groups()) records.widen(slots);
  }

  /** Sets `key` and `place` for a call about this key. */
  lookUp(key: string): void {
    this.key = key;
    this.place = this.records.find(key) ?? NONE;
  }

  /** The record of a peer without one, if a snapshot has restored it. */
  findPending(text: string): FoundRecord<RuleRecords> | undefined {
    return this.pending.isEmpty ? undefined : this.pending.find(text);
  }

  /** False if the current peer is certainly not banned. */
  mayBeBanned(): boolean {
    return this.place !== NONE && this.offenders.mayBeBanned(this.place);
  }

  /** The seconds until the ban of the current peer ends; 0 without one. */
  banSecondsLeft(now: number): number {
    return this.mayBeBanned() ? this.offenders.banSecondsLeft(this.key, now) : 0;
  }

  /**
   * Whether a new record may be added now; if there are maxPeers records, only in place of one with a lower cost, among
   * up to `most` records. stage() may follow.
   */
  admit(now: number, newcomerCost: EvictionCost = COST_OF_BANNED, most = MOST_LOOKED_AT): boolean {
    this.#victim = undefined;
    if (this.records.size < this.#maxPeers) return true;
    if (this.offenders.areAllBanned(now)) return false;
    const best = new EvictionCandidate(newcomerCost);
    offerSample(this.records, most, best, (place) => {
      if (this.offenders.isCertainlyBanned(place, now)) return false;
      const seconds = this.secondsUntilFresh(this.records, place, now);
      if (!best.canImprove(seconds)) return false;
      const idle = elapsed(now, this.records.at(place));
      return best.offer(place, this.offenders.evictionCostOf(place, seconds, idle, now));
    });
    if (best.place === undefined) return false;
    this.#victim = best;
    return true;
  }

  /**
   * Inserts what the current peer does not have yet: a record, for which admit() has returned true, and what offences
   * need. @throws `ERR_LIMITER_MEMORY`; then nothing has changed.
   */
  stage(text: string, isViolation: boolean, isPunished: boolean, now: number): void {
    const { key } = this;
    const isNew = this.place === NONE;
    const own = isNew ? keep(key) : this.records.keyAt(this.place);
    if (isNew) this.#insert(own, now);
    try {
      this.#added = this.offenders.add(key, text, own, isViolation, isPunished);
    } catch (error) {
      this.#added = 0;
      if (isNew) this.#removeInserted(own);
      throw error;
    }
    this.#own = isNew ? own : undefined;
  }

  /** Undoes stage(). */
  undo(): void {
    this.offenders.undo(this.key, this.#added);
    if (this.#own === undefined) return;
    this.#removeInserted(this.#own);
    this.place = NONE;
  }

  /** Completes stage(): evicts the record that a new one replaces, and moves the peer's pending record to it. */
  commit(text: string, now: number): void {
    if (this.#own === undefined) return;
    const victim = this.#victim;
    if (victim !== undefined) {
      this.place = victim.place as Place;
      this.counters.countEviction(victim.cost);
      this.offenders.forgive(this.records.keyAt(this.place));
      this.records.replace(this.place, this.#own, now);
    }
    this.pending.take(text, (records, from) => {
      const base = records.baseOf(from);
      const record = records.numbers.subarray(base, base + 1 + this.slots);
      this.records.numbers.set(record, this.records.baseOf(this.place));
    });
  }

  /** Removes a record, and everything that belongs to it. False if there is none. */
  remove(key: string): boolean {
    this.offenders.forgive(key);
    return this.records.delete(key);
  }

  /** The seconds from `now` until nothing of a record is used, at the rates of the base plan. */
  secondsUntilFresh(records: RuleRecords, place: Place, now: number): number {
    const base = records.baseOf(place);
    return this.#rates.secondsUntilFresh(records.numbers, base, this.index, this.slots, now);
  }

  /** The passes of a cleanup: always three. */
  passes(maxIdle: number, now: number): Pass[] {
    const isExpired = (records: RuleRecords, place: Place) =>
      elapsed(now, records.at(place)) > maxIdle &&
      this.secondsUntilFresh(records, place, now) === 0;
    return [
      pass(this.records, (key, place) => {
        if (!isExpired(this.records, place)) return false;
        if (this.isSingle || this.offenders.isRemembered(key, this.policy, now)) return false;
        return this.remove(key);
      }),
      this.offenders.pass(now),
      this.pending.pass(isExpired),
    ];
  }

  statistics(): RuleScopeStatistics {
    const { offenders } = this;
    const { bansBegun, evictions, lossyEvictions, refusedNewcomers } = this.counters.totals();
    return {
      peers: this.isSingle ? 0 : this.records.size,
      totalViolations: offenders.totalViolations,
      unnamedOffenders: offenders.unnamed,
      topViolators: offenders.topViolators(),
      bansBegun,
      evictions,
      lossyEvictions,
      refusedNewcomers,
    };
  }

  clear(): void {
    this.records.clear();
    this.pending.clear();
    this.offenders.clear();
    if (this.isSingle) this.records.insert(SINGLE, NEVER);
  }

  #insert(own: string, now: number): void {
    const victim = this.#victim;
    if (victim === undefined) this.place = this.records.insert(own, now);
    else this.records.announce(victim.place as Place, own);
  }

  #removeInserted(own: string): void {
    if (this.#victim === undefined) this.records.delete(own);
    else this.records.withdraw(own);
    this.place = NONE;
  }
}
