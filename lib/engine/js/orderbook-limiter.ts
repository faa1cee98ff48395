// JsOrderbookLimiter decides the checks of the public class OrderbookRateLimiter. Counterpart of
// native/limiters/orderbook-limiter.h; the contract is lib/engine/engine.ts, the contract suite, the traces and the
// differential test.

import { monotonicSeconds } from '../../common/clock.js';
import type { BansInForce, SnapshotPeer } from '../../common/types.js';
import { elapsed, NEVER, secondsLeft } from '../../tables/arithmetic.js';
import { keep } from '../../tables/keys.js';
import { type Place, Times } from '../../tables/table.js';
import type { DigestColumns } from '../columns.js';
import {
  BAN_BEGINS,
  type OrderbookConfig,
  type OrderbookCore,
  REFUSED,
  type Refusal,
  type SnapshotStep,
} from '../engine.js';
import {
  type Admission,
  EvictionCandidate,
  MOST_LOOKED_AT,
  offerSample,
  SAMPLE,
  WITHOUT_EVICTION,
} from './eviction.js';
import { COST_OF_BANNED, costOfClean, type EvictionCost, isZero } from './eviction-cost.js';
import { JsLimiter } from './limiter.js';
import { resolveSlot } from './peer-slot.js';
import { eachDigest, NO_ROOM, PendingRecords, restoreTime } from './pending.js';
import { banBegan, evictionCostOf, idleSecondsOf } from './records.js';
import { passesOf, saveTime, walk } from './snapshot-walk.js';
import { reserveStack } from './stack.js';
import { pass } from './sweep.js';

export class JsOrderbookLimiter extends JsLimiter implements OrderbookCore {
  readonly #config: OrderbookConfig;
  /** When each peer's last request was allowed; NEVER if a ban has ended since. */
  readonly #allowedAt: Times;
  readonly #pending = new PendingRecords(() => new Times());
  /** The number of peers with a time and a ban, in force or over. */
  #inBothTables = 0;

  constructor(config: OrderbookConfig, mostKeys?: number) {
    const allowedAt = new Times();
    super(config.maxPeers, allowedAt, mostKeys);
    this.#config = config;
    this.#allowedAt = allowedAt;
  }

  check(text: string, now = monotonicSeconds()): Refusal | undefined {
    return this.#check(this.keys.find(text), text, now);
  }

  /** The look-up by key needs no cached place: V8 keeps a string's hash with the string. */
  checkPeer(text: string, now = monotonicSeconds()): Refusal | undefined {
    return this.#check(resolveSlot(text, this.keys, this.#allowedAt), text, now);
  }

  isBanned(key: string, now = monotonicSeconds()): boolean {
    return this.#isBanned(this.keys.find(key), now);
  }

  unban(text: string, now = monotonicSeconds()): boolean {
    if (this.banSecondsLeft(text, now) === 0) return false;
    this.#endBan(this.keys.find(text));
    return true;
  }

  banSecondsLeft(text: string, now = monotonicSeconds()): number {
    return this.offenders.bans.secondsLeft(this.keys.find(text), now, this.#config.banDuration);
  }

  snapshot(most: number, now: () => number | undefined): Iterable<SnapshotStep> {
    const { banDuration } = this.#config;
    const { keys, offenders } = this;
    const describe = (key: string, at: number) => {
      const idle = this.#allowedAt.idleSeconds(key, at);
      return { idleSeconds: idle === Infinity ? null : idle, bucket: null };
    };
    const save = saveTime(this.#effectiveInterval(0));
    const passes = () => passesOf(this.#allowedAt, this.#pending, save, keys);
    return walk({ keys, offenders, banDuration, describe, passes }, most, now);
  }

  adopt(secret: Uint32Array): void {
    if (this.peers === 0 && this.#pending.isEmpty) this.keys.adopt(secret);
  }

  restoreDigests(columns: DigestColumns, now = monotonicSeconds()): number {
    const records = this.#pending.under(columns.secret);
    if (records === undefined) return 0;
    return eachDigest(columns, (name, idleSeconds) => {
      if (Number.isNaN(idleSeconds)) return false;
      const hasCapacity = this.#pending.size < this.maxPeers;
      return restoreTime(records, name, now - idleSeconds, hasCapacity);
    });
  }

  removePeer(text: string): void {
    reserveStack();
    this.#remove(this.keys.find(text));
    this.#pending.remove(text);
  }

  cleanup(maxAge: number, budgetMs: number, now = monotonicSeconds()): number {
    reserveStack();
    const expireTime = (key: string, place: Place) => {
      if (!(elapsed(now, this.#allowedAt.at(place)) > maxAge)) return false;
      if (this.#hasBan(key)) this.#inBothTables -= 1;
      else this.offenders.forgive(key);
      return this.#allowedAt.delete(key);
    };
    const expireBan = (key: string, place: Place) => {
      if (!(elapsed(now, this.offenders.bans.began(place)) > this.#config.banDuration))
        return false;
      if (this.#allowedAt.find(key) !== undefined) this.#inBothTables -= 1;
      return true;
    };
    const interval = this.#effectiveInterval(0);
    const expirePending = (records: Times, place: Place) => {
      const idle = elapsed(now, records.at(place));
      return idle > maxAge || secondsLeft(interval, idle) === 0;
    };
    const passes = [
      pass(this.#allowedAt, expireTime),
      this.offenders.banPass(expireBan),
      this.#pending.pass(expirePending),
    ];
    return this.sweep.run(passes, budgetMs);
  }

  bannedKeys(now = monotonicSeconds()): string[] {
    return this.offenders.bannedKeys(now, this.#config.banDuration);
  }

  longestBans(most: number, now = monotonicSeconds()): BansInForce {
    return this.offenders.longestBans(most, now, this.#config.banDuration);
  }

  clear(): void {
    reserveStack();
    this.#allowedAt.clear();
    this.#pending.clear();
    this.offenders.clear();
    this.sweep.stop();
    this.#inBothTables = 0;
  }

  protected get peers(): number {
    return this.#allowedAt.size + this.offenders.bans.size - this.#inBothTables;
  }

  protected get tracked(): number {
    return this.#allowedAt.size;
  }

  #check(key: string, text: string, now: number): Refusal | undefined {
    if (this.#isBanned(key, now)) {
      reserveStack();
      this.offenders.addViolation(key, text, undefined);
      this.counters.disconnected += 1;
      return REFUSED;
    }
    const violations = this.offenders.violations(key);
    if (violations >= this.#config.violationBanThreshold) return this.#beginBan(key, text, now);
    const place = this.#allowedAt.find(key) ?? this.#restorePending(key, text, now);
    if (place === NO_ROOM) return this.#refuseNewcomer();
    const allowedAt = place === undefined ? NEVER : this.#allowedAt.at(place);
    if (elapsed(now, allowedAt) >= this.#effectiveInterval(violations)) {
      return this.#setAllowedAt(place, key, now);
    }
    reserveStack();
    this.offenders.addViolation(key, text, place);
    this.counters.delayed += 1;
    return REFUSED;
  }

  #remove(key: string): void {
    const banned = this.#hasBan(key);
    if (this.#allowedAt.delete(key) && banned) this.#inBothTables -= 1;
    this.offenders.forgive(key);
  }

  /** Whether a ban is in force. A ban that is over is removed with its violations. */
  #isBanned(key: string, now: number): boolean {
    const began = this.offenders.bans.beganAt(key);
    if (began === NEVER) return false;
    if (elapsed(now, began) < this.#config.banDuration) return true;
    this.#endBan(key);
    return false;
  }

  /** Removes a ban with its violations. The peer's next request is allowed. */
  #endBan(key: string): void {
    reserveStack();
    const place = this.#allowedAt.find(key);
    if (place !== undefined) this.#inBothTables -= 1;
    this.offenders.forgive(key);
    try {
      if (place === undefined) this.#allowedAt.insert(keep(key), NEVER);
      else this.#allowedAt.set(place, NEVER);
    } catch {
      // If there is no memory for the time, nothing is wrong: a peer without one is allowed too.
    }
  }

  protected restoreOffender(peer: SnapshotPeer, now: number, most: number): boolean {
    reserveStack();
    const key = this.keys.find(peer.key);
    const began = banBegan(peer, now, this.#config.banDuration);
    // Removes a ban that is over, because restoring would extend it.
    this.#isBanned(key, now);
    const hadBan = this.#hasBan(key);
    const isKnown = hadBan || this.#allowedAt.find(key) !== undefined;
    const admission = isKnown ? WITHOUT_EVICTION : this.#admit(now, evictionCostOf(peer), most);
    if (admission === undefined) return false;
    const isBanOnly = began > NEVER && peer.idleSeconds === null;
    if (!isKnown && !isBanOnly) {
      const pending = this.#pending.find(peer.key);
      const pendingAt = pending === undefined ? NEVER : pending.records.at(pending.place);
      const at = Math.max(now - idleSecondsOf(peer), pendingAt);
      this.#allowedAt.insert(keep(key), at, admission.place);
      this.#evict(admission, true);
    }
    this.#pending.remove(peer.key);
    this.offenders.restore(key, peer.key, peer.violations, began);
    if (!isKnown && isBanOnly) this.#evict(admission, false);
    if (!hadBan && this.#hasBan(key) && this.#allowedAt.find(key) !== undefined) {
      this.#inBothTables += 1;
    }
    return true;
  }

  /** Moves the peer's pending time to its record. Undefined if there is none. */
  #restorePending(key: string, text: string, now: number): Place | typeof NO_ROOM | undefined {
    if (this.#pending.isEmpty) return undefined;
    reserveStack();
    const found = this.#pending.find(text);
    if (found === undefined) return undefined;
    const admission = this.#admit(now, COST_OF_BANNED, MOST_LOOKED_AT);
    if (admission === undefined) return NO_ROOM;
    const place = this.#allowedAt.insert(keep(key), found.records.at(found.place), admission.place);
    this.#evict(admission, true);
    this.#pending.remove(text);
    return this.#allowedAt.find(key) ?? place;
  }

  /** Sets the time at `place`. If that is undefined, adds a record for the peer. */
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
    this.counters.allowed += 1;
    return undefined;
  }

  /** If the peer has no time, the ban is all that is stored of it, and it counts as a new peer. */
  #beginBan(key: string, text: string, now: number): Refusal {
    reserveStack();
    const isKnown = this.#allowedAt.find(key) !== undefined;
    const admission = isKnown ? WITHOUT_EVICTION : this.#admit(now, COST_OF_BANNED, MOST_LOOKED_AT);
    if (admission === undefined) return this.#refuseNewcomer();
    this.offenders.beginBan(key, text, now);
    this.#evict(admission, false);
    if (isKnown) this.#inBothTables += 1;
    this.counters.bansBegun += 1;
    this.counters.disconnected += 1;
    return BAN_BEGINS;
  }

  #refuseNewcomer(): typeof REFUSED {
    this.counters.refusedNewcomers += 1;
    this.counters.delayed += 1;
    return REFUSED;
  }

  /**
   * Decides whether a new peer may be added. If there are maxPeers peers, one with a lower cost than the new peer is
   * chosen to be evicted. Undefined if there is none.
   */
  #admit(now: number, newcomerCost: EvictionCost, most: number): Admission | undefined {
    if (this.peers < this.maxPeers) return WITHOUT_EVICTION;
    const { banDuration } = this.#config;
    if (this.offenders.areAllBanned(this.peers, now, banDuration)) return undefined;
    const best = new EvictionCandidate(newcomerCost);
    offerSample(this.#allowedAt, most, best, (place) => this.#offer(best, place, now));
    // Some peers have only a ban, and it may be over.
    const { bans } = this.offenders;
    let ended: string | undefined;
    if (
      !isZero(best.cost) &&
      bans.size > this.#inBothTables &&
      this.offenders.bans.mayAnyBeOver(now, banDuration)
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

  /**
   * Removes the evicted peer of an admission. `isReplaced` says whether the newcomer has replaced its record in
   * #allowedAt, if it had one.
   */
  #evict({ place, evicted }: Admission, isReplaced: boolean): void {
    if (evicted === undefined) return;
    this.counters.countEviction(evicted.cost);
    if (place !== undefined && this.#hasBan(evicted.key)) this.#inBothTables -= 1;
    if (!isReplaced) this.#allowedAt.delete(evicted.key);
    this.offenders.forgive(evicted.key);
  }

  #offer(best: EvictionCandidate, place: Place, now: number): boolean {
    const { banDuration } = this.#config;
    if (this.offenders.isCertainlyBanned(place, now, banDuration)) return false;
    const idle = elapsed(now, this.#allowedAt.at(place));
    const interval = this.#effectiveInterval(0);
    // A lower bound that needs no look-up of the ban: a peer with a ban that is over is fresh, and it has been idle for
    // at least banDuration.
    if (!best.canImprove(secondsLeft(Math.min(interval, banDuration), idle))) return false;
    const seconds = secondsLeft(interval, idle);
    return best.offer(
      place,
      this.offenders.evictionCostOf(place, seconds, 0, idle, now, banDuration),
    );
  }

  /** Whether the peer has a ban, in force or over. */
  #hasBan(key: string): boolean {
    return this.offenders.bans.beganAt(key) !== NEVER;
  }

  /** The minimum seconds between two allowed requests. */
  #effectiveInterval(violations: number): number {
    if (violations < this.#config.violationWarningThreshold) return this.#config.interval;
    if (violations < this.#config.violationSevereThreshold) return this.#config.interval * 6;
    return this.#config.interval * 30;
  }
}
