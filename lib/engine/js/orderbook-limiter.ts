// OrderbookRateLimiter's decisions. Twin of native/limiters/orderbook-limiter.h: same names, same order of
// statements.

import { monotonicSeconds } from '../../common/clock.js';
import type { BansInForce, SnapshotPeer } from '../../common/types.js';
import { elapsed, NEVER, secondsLeft } from '../../tables/arithmetic.js';
import { Keys, keep } from '../../tables/keys.js';
import { MOST_KEYS, type Place, Times } from '../../tables/table.js';
import type { DigestColumns, OffenderColumns } from '../columns.js';
import {
  BAN_BEGINS,
  type EngineStatistics,
  type OrderbookConfig,
  type OrderbookCore,
  REFUSED,
  type Refusal,
  type SnapshotStep,
} from '../engine.js';
import { Counters } from './counters.js';
import {
  type Admission,
  EvictionCandidate,
  MOST_LOOKED_AT,
  offerSample,
  SAMPLE,
  WITHOUT_EVICTION,
} from './eviction.js';
import { COST_OF_BANNED, costOfClean, type EvictionCost, isZero } from './eviction-cost.js';
import { Offenders } from './offenders.js';
import { resolveSlot } from './peer-slot.js';
import { eachDigest, NO_ROOM, PendingRecords, restoreTime } from './pending.js';
import { banBegan, evictionCostOf, idleSecondsOf, restoreAll } from './records.js';
import { passesOf, saveTime, walk } from './snapshot-walk.js';
import { reserveStack } from './stack.js';
import { pass, Sweep } from './sweep.js';

export class JsOrderbookLimiter implements OrderbookCore {
  readonly #config: OrderbookConfig;
  readonly #maxPeers: number;
  /** When each peer was last allowed; NEVER after a ban that is over. */
  readonly #allowedAt = new Times();
  readonly #pending = new PendingRecords(() => new Times());
  readonly #keys = new Keys();
  readonly #offenders: Offenders;
  /** Peers with a time and a ban, over or not. */
  #inBothTables = 0;
  readonly #sweep = new Sweep();
  readonly #counters = new Counters();

  constructor(config: OrderbookConfig, mostKeys = MOST_KEYS) {
    this.#config = config;
    this.#maxPeers = Math.min(config.maxPeers, mostKeys);
    this.#offenders = new Offenders(config.maxPeers, this.#allowedAt);
  }

  check(text: string, now = monotonicSeconds()): Refusal | undefined {
    return this.#check(this.#keys.find(text), text, now);
  }

  /** A Map needs no place: it has the key's hash at hand, which V8 keeps with the string. */
  checkPeer(text: string, now = monotonicSeconds()): Refusal | undefined {
    return this.#check(resolveSlot(text, this.#keys, this.#allowedAt), text, now);
  }

  isBanned(key: string, now = monotonicSeconds()): boolean {
    return this.#isBannedForCheck(this.#keys.find(key), now);
  }

  violations(key: string): number {
    return this.#offenders.violations(this.#keys.find(key));
  }

  snapshot(most: number, now: () => number | undefined): Iterable<SnapshotStep> {
    const { banDuration } = this.#config;
    const of = { keys: this.#keys, offenders: this.#offenders, banDuration };
    const describe = (key: string, at: number) => {
      const idle = this.#allowedAt.idleSeconds(key, at);
      return { idleSeconds: idle === Infinity ? null : idle, bucket: null };
    };
    const save = saveTime(this.#effectiveInterval(0));
    const passes = () => passesOf(this.#allowedAt, this.#pending, save, this.#keys);
    return walk({ ...of, describe, passes }, most, now);
  }

  restore(offenders: OffenderColumns, now = monotonicSeconds()): number {
    return restoreAll(offenders, (peer, most) => this.#restore(peer, now, most));
  }

  adopt(secret: Uint32Array): void {
    if (this.#peers === 0 && this.#pending.isEmpty) this.#keys.adopt(secret);
  }

  restoreDigests(columns: DigestColumns, now = monotonicSeconds()): number {
    const records = this.#pending.under(columns.secret);
    if (records === undefined) return 0;
    return eachDigest(columns, (name, idleSeconds) => {
      if (Number.isNaN(idleSeconds)) return false;
      const hasRoom = this.#pending.size < this.#maxPeers;
      return restoreTime(records, name, now - idleSeconds, hasRoom);
    });
  }

  removePeer(key: string): void {
    reserveStack();
    this.#remove(this.#keys.find(key));
    this.#pending.forget(key);
  }

  cleanup(maxAge: number, budgetMs: number, now = monotonicSeconds()): number {
    reserveStack();
    const old = (key: string, place: Place) => {
      if (!(elapsed(now, this.#allowedAt.at(place)) > maxAge)) return false;
      if (this.#hasBan(key)) this.#inBothTables -= 1;
      else this.#offenders.forgive(key);
      return this.#allowedAt.delete(key);
    };
    const over = (key: string, place: Place) => {
      if (!(elapsed(now, this.#offenders.bans.began(place)) > this.#config.banDuration))
        return false;
      if (this.#allowedAt.find(key) !== undefined) this.#inBothTables -= 1;
      return true;
    };
    const interval = this.#effectiveInterval(0);
    const useless = (records: Times, place: Place) => {
      const idle = elapsed(now, records.at(place));
      return idle > maxAge || secondsLeft(interval, idle) === 0;
    };
    const passes = [
      pass(this.#allowedAt, old),
      this.#offenders.banPass(over),
      ...this.#pending.passes(useless),
    ];
    return this.#sweep.run(passes, budgetMs);
  }

  isCleaning(): boolean {
    return this.#sweep.isUnderway;
  }

  statistics(): EngineStatistics {
    return {
      tracked: this.#allowedAt.size,
      peers: this.#peers,
      unnamedOffenders: this.#offenders.unnamed,
      totalViolations: this.#offenders.totalViolations,
      topViolators: this.#offenders.topViolators(),
      ...this.#counters.totals(),
    };
  }

  bannedKeys(now = monotonicSeconds()): string[] {
    return this.#offenders.bannedKeys(now, this.#config.banDuration);
  }

  longestBans(most: number, now = monotonicSeconds()): BansInForce {
    return this.#offenders.longestBans(most, now, this.#config.banDuration);
  }

  clear(): void {
    reserveStack();
    this.#allowedAt.clear();
    this.#pending.clear();
    this.#offenders.clear();
    this.#sweep.stop();
    this.#inBothTables = 0;
  }

  get #peers(): number {
    return this.#allowedAt.size + this.#offenders.bans.size - this.#inBothTables;
  }

  #check(key: string, text: string, now: number): Refusal | undefined {
    if (this.#isBannedForCheck(key, now)) {
      reserveStack();
      this.#offenders.addViolation(key, text);
      this.#counters.disconnected += 1;
      return REFUSED;
    }
    const violations = this.#offenders.violations(key);
    if (violations >= this.#config.violationBanThreshold) return this.#beginBan(key, text, now);
    const place = this.#allowedAt.find(key) ?? this.#recall(key, text, now);
    if (place === NO_ROOM) return this.#refuseNewcomer();
    const allowedAt = place === undefined ? NEVER : this.#allowedAt.at(place);
    if (elapsed(now, allowedAt) >= this.#effectiveInterval(violations)) {
      return this.#setAllowedAt(place, key, now);
    }
    reserveStack();
    this.#offenders.addViolation(key, text);
    this.#counters.delayed += 1;
    return REFUSED;
  }

  #remove(key: string): void {
    const banned = this.#hasBan(key);
    if (this.#allowedAt.delete(key) && banned) this.#inBothTables -= 1;
    this.#offenders.forgive(key);
  }

  /** Whether a ban is in force; one that is over goes, its violations with it. */
  #isBannedForCheck(key: string, now: number): boolean {
    const bannedAt = this.#offenders.bans.beganAt(key);
    if (bannedAt === NEVER) return false;
    if (elapsed(now, bannedAt) < this.#config.banDuration) return true;
    reserveStack();
    const place = this.#allowedAt.find(key);
    if (place !== undefined) this.#inBothTables -= 1;
    this.#offenders.forgive(key);
    try {
      if (place === undefined) this.#allowedAt.insert(keep(key), NEVER);
      else this.#allowedAt.set(place, NEVER);
    } catch {
      // Where there is no memory for it, a peer without an entry is allowed as well.
    }
    return false;
  }

  #restore(peer: SnapshotPeer, now: number, most: number): boolean {
    reserveStack();
    const key = this.#keys.find(peer.key);
    const began = banBegan(peer, now, this.#config.banDuration);
    // Or a ban that is over would be lengthened.
    this.#isBannedForCheck(key, now);
    const wasInBans = this.#hasBan(key);
    const isKnown = wasInBans || this.#allowedAt.find(key) !== undefined;
    const admission = isKnown ? WITHOUT_EVICTION : this.#admit(now, evictionCostOf(peer), most);
    if (admission === undefined) return false;
    const isBanAlone = began > NEVER && peer.idleSeconds === null;
    if (!isKnown && !isBanAlone) {
      const awaited = this.#pending.find(peer.key);
      const waitingSince = awaited === undefined ? NEVER : awaited.records.at(awaited.place);
      const at = Math.max(now - idleSecondsOf(peer), waitingSince);
      this.#allowedAt.insert(keep(key), at, admission.place);
      this.#evict(admission, true);
    }
    this.#pending.forget(peer.key);
    this.#offenders.restore(key, peer.key, peer.violations, began);
    if (!isKnown && isBanAlone) this.#evict(admission, false);
    if (!wasInBans && this.#hasBan(key) && this.#allowedAt.find(key) !== undefined) {
      this.#inBothTables += 1;
    }
    return true;
  }

  /** Gives the peer the time that is awaited of it; undefined if there is none. */
  #recall(key: string, text: string, now: number): Place | typeof NO_ROOM | undefined {
    if (this.#pending.isEmpty) return undefined;
    reserveStack();
    const found = this.#pending.find(text);
    if (found === undefined) return undefined;
    const admission = this.#admit(now, COST_OF_BANNED, MOST_LOOKED_AT);
    if (admission === undefined) return NO_ROOM;
    const place = this.#allowedAt.insert(keep(key), found.records.at(found.place), admission.place);
    this.#evict(admission, true);
    this.#pending.forget(text);
    return this.#allowedAt.find(key) ?? place;
  }

  /** Writes to `place`, or where that is undefined to the one that the peer gets. */
  #setAllowedAt(place: Place | undefined, key: string, now: number): Refusal | undefined {
    if (place === undefined) {
      reserveStack();
      const admission = this.#admit(now, COST_OF_BANNED, MOST_LOOKED_AT);
      if (admission === undefined) return this.#refuseNewcomer();
      this.#allowedAt.insert(keep(key), now, admission.place);
      this.#evict(admission, true);
    } else {
      this.#allowedAt.set(place, now);
    }
    this.#counters.allowed += 1;
    return undefined;
  }

  /** A ban may be all that is known of a peer. */
  #beginBan(key: string, text: string, now: number): Refusal {
    reserveStack();
    const isKnown = this.#allowedAt.find(key) !== undefined;
    const admission = isKnown ? WITHOUT_EVICTION : this.#admit(now, COST_OF_BANNED, MOST_LOOKED_AT);
    if (admission === undefined) return this.#refuseNewcomer();
    this.#offenders.beginBan(key, text, now);
    this.#evict(admission, false);
    if (isKnown) this.#inBothTables += 1;
    this.#counters.bansBegun += 1;
    this.#counters.disconnected += 1;
    return BAN_BEGINS;
  }

  #refuseNewcomer(): typeof REFUSED {
    this.#counters.refusedNewcomers += 1;
    this.#counters.delayed += 1;
    return REFUSED;
  }

  /** Admission for a newcomer: where there are maxPeers, one that is missed less goes. */
  #admit(now: number, newcomerCost: EvictionCost, most: number): Admission | undefined {
    if (this.#peers < this.#maxPeers) return WITHOUT_EVICTION;
    const { banDuration } = this.#config;
    if (this.#offenders.areAllBanned(this.#peers, now, banDuration)) return undefined;
    const best = new EvictionCandidate(newcomerCost);
    offerSample(this.#allowedAt, most, best, (place) => this.#offer(best, place, now));
    // Of some peers only a ban is known, which may be over.
    const { bans } = this.#offenders;
    let ended: string | undefined;
    if (
      !isZero(best.cost) &&
      bans.size > this.#inBothTables &&
      this.#offenders.bans.mayAnyBeOver(now, banDuration)
    ) {
      bans.sample(best.place === undefined ? most : SAMPLE, (place) => {
        if (elapsed(now, bans.began(place)) >= banDuration) ended = bans.keyAt(place);
        return ended !== undefined;
      });
    }
    if (ended !== undefined) {
      const place = this.#allowedAt.find(ended);
      return { place, evicted: { key: ended, cost: costOfClean(0) } };
    }
    if (best.place === undefined) return undefined;
    const key = this.#allowedAt.keyAt(best.place);
    return { place: best.place, evicted: { key, cost: best.cost } };
  }

  /** Whose the admission was is forgotten. `isTaken`: its place, if it had one, is the newcomer's already. */
  #evict({ place, evicted }: Admission, isTaken: boolean): void {
    if (evicted === undefined) return;
    this.#counters.countEviction(evicted.cost);
    if (place !== undefined && this.#hasBan(evicted.key)) this.#inBothTables -= 1;
    if (!isTaken) this.#allowedAt.delete(evicted.key);
    this.#offenders.forgive(evicted.key);
  }

  #offer(best: EvictionCandidate, place: Place, now: number): boolean {
    const { banDuration } = this.#config;
    if (this.#offenders.isCertainlyBanned(place, now, banDuration)) return false;
    const idle = elapsed(now, this.#allowedAt.at(place));
    const interval = this.#effectiveInterval(0);
    // After a ban that is over its peer is as a fresh one, and was idle for at least as long.
    if (!best.canImprove(secondsLeft(Math.min(interval, banDuration), idle))) return false;
    const seconds = secondsLeft(interval, idle);
    return best.offer(
      place,
      this.#offenders.evictionCostOf(place, seconds, 0, idle, now, banDuration),
    );
  }

  #hasBan(key: string): boolean {
    return this.#offenders.bans.beganAt(key) !== NEVER;
  }

  #effectiveInterval(violations: number): number {
    if (violations < this.#config.violationWarningThreshold) return this.#config.interval;
    if (violations < this.#config.violationSevereThreshold) return this.#config.interval * 6;
    return this.#config.interval * 30;
  }
}
