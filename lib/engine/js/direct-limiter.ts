// JsDirectLimiter decides the checks of the public class DirectConnectionRateLimiter. Counterpart of
// native/limiters/direct-limiter.h; the contract is lib/engine/engine.ts, the contract suite, the traces and the
// differential test.

import { monotonicSeconds } from '../../common/clock.js';
import type { BansInForce, SnapshotPeer } from '../../common/types.js';
import { elapsed, NEVER, secondsLeft } from '../../tables/arithmetic.js';
import { keep } from '../../tables/keys.js';
import { Buckets, type Place, type Table, Times } from '../../tables/table.js';
import type { DigestColumns } from '../columns.js';
import {
  BAN_BEGINS,
  type DirectConfig,
  type DirectCore,
  type Handle,
  REFUSED,
  type Refusal,
  SLOT_BUFFER,
  type SnapshotStep,
  VERDICT_ALLOW,
  VERDICT_DELAY,
  VERDICT_DISCONNECT,
} from '../engine.js';
import { ConnectionTables } from './connection-tables.js';
import { MOST_LOOKED_AT } from './eviction.js';
import { COST_OF_BANNED } from './eviction-cost.js';
import { GroupLimiter, type Places } from './groups.js';
import { resolveSlot } from './peer-slot.js';
import { eachDigest, PendingRecords, restoreTime } from './pending.js';
import { banBegan, evictionCostOf, idleSecondsOf, restoreBucket, savedBucket } from './records.js';
import { passesOf, saveBucket, saveTime, walk } from './snapshot-walk.js';
import { reserveGroupStack, reserveStack } from './stack.js';
import { pass } from './sweep.js';

export class JsDirectLimiter extends GroupLimiter implements DirectCore {
  readonly #config: DirectConfig;
  readonly #tables: ConnectionTables;
  // The same tables, so that a check need not go through #tables.
  readonly #buckets: Buckets;
  readonly #allowedAt: Times;
  readonly #pendingBuckets = new PendingRecords(() => new Buckets());
  readonly #pendingTimes = new PendingRecords(() => new Times());

  constructor(config: DirectConfig, mostKeys?: number) {
    const buckets = new Buckets();
    const allowedAt = new Times();
    super(config.maxPeers, allowedAt, mostKeys);
    this.#config = config;
    this.#buckets = buckets;
    this.#allowedAt = allowedAt;
    const { maxPeers, offenders, counters } = this;
    this.#tables = new ConnectionTables(buckets, allowedAt, config, maxPeers, offenders, counters);
  }

  checkMessage(text: string, cost = 1, now = monotonicSeconds()): typeof REFUSED | undefined {
    const key = this.keys.find(text);
    if (this.#isBannedForCheck(key, now)) return this.#disconnect();
    const place = this.#buckets.find(key) ?? this.#addBucket(keep(key), text, now);
    if (place === undefined) return this.#refuseNewcomer();
    return this.#consume(place, cost, now);
  }

  checkPeer(text: string, cost = 1, now = monotonicSeconds()): typeof REFUSED | undefined {
    const key = resolveSlot(text, this.keys, this.#buckets);
    if (this.#isBannedForCheck(key, now)) return this.#disconnect();
    return this.#checkPlace(SLOT_BUFFER, 0, key, text, cost, now);
  }

  checkGroup(
    group: Handle,
    texts: readonly string[],
    verdicts: Uint8Array,
    cost = 1,
    now = monotonicSeconds(),
  ): void {
    reserveGroupStack();
    const { keys, places } = this.currentMembers(group, texts);
    for (let i = 0; i < keys.length; i += 1) {
      verdicts[i] = this.#verdict(places, i, keys[i] as string, texts[i] as string, cost, now);
    }
  }

  checkOrderbook(text: string, now = monotonicSeconds()): Refusal | undefined {
    return this.#checkOrderbook(this.keys.find(text), text, now);
  }

  /** The look-up by key needs no cached place: V8 keeps a string's hash with the string. */
  checkPeerOrderbook(text: string, now = monotonicSeconds()): Refusal | undefined {
    return this.#checkOrderbook(resolveSlot(text, this.keys, this.#allowedAt), text, now);
  }

  isBanned(text: string, now = monotonicSeconds()): boolean {
    const key = this.keys.find(text);
    const began = this.offenders.bans.beganAt(key);
    if (began === NEVER) return false;
    if (elapsed(now, began) < this.#config.banDuration) return true;
    reserveStack();
    this.offenders.liftBan(key);
    return false;
  }

  unban(text: string, now = monotonicSeconds()): boolean {
    if (this.banSecondsLeft(text, now) === 0) return false;
    reserveStack();
    this.offenders.liftBan(this.keys.find(text));
    return true;
  }

  banSecondsLeft(text: string, now = monotonicSeconds()): number {
    return this.offenders.bans.secondsLeft(this.keys.find(text), now, this.#config.banDuration);
  }

  tokens(key: string): number {
    const place = this.#buckets.find(this.keys.find(key));
    if (place !== undefined) return this.#buckets.tokens(place);
    const found = this.#pendingBuckets.find(key);
    return found === undefined ? this.#config.messageBurst : found.records.tokens(found.place);
  }

  snapshot(most: number, now: () => number | undefined): Iterable<SnapshotStep> {
    const { banDuration, messageRatePerSec: rate, messageBurst, orderbookInterval } = this.#config;
    const { keys, offenders } = this;
    const describe = (key: string, at: number) => {
      const idle = this.#allowedAt.idleSeconds(key, at);
      const bucket = savedBucket(this.#buckets, this.#buckets.find(key), at, rate, messageBurst);
      return { idleSeconds: idle === Infinity ? null : idle, bucket };
    };
    const saveMessages = saveBucket(rate, messageBurst);
    const [buckets, pendingBuckets] = [this.#buckets, this.#pendingBuckets];
    const [times, pendingTimes] = [this.#allowedAt, this.#pendingTimes];
    function* passes() {
      yield* passesOf(buckets, pendingBuckets, saveMessages, keys);
      yield* passesOf(times, pendingTimes, saveTime(orderbookInterval), keys);
    }
    return walk({ keys, offenders, banDuration, describe, passes }, most, now);
  }

  adopt(secret: Uint32Array): void {
    const hasPending = !this.#pendingBuckets.isEmpty || !this.#pendingTimes.isEmpty;
    const isEmpty = this.peers === 0 && this.offenders.bans.size === 0 && !hasPending;
    if (isEmpty) this.keys.adopt(secret);
  }

  restoreDigests(columns: DigestColumns, now = monotonicSeconds()): number {
    const buckets = this.#pendingBuckets.under(columns.secret);
    const times = this.#pendingTimes.under(columns.secret);
    return eachDigest(columns, (name, idle, tokens, bucketIdle) => {
      const hasBucket =
        !Number.isNaN(tokens) &&
        this.#restorePendingBucket(buckets, name, tokens, now - bucketIdle);
      const hasCapacity = this.#pendingTimes.size < this.maxPeers;
      const hasTime =
        !Number.isNaN(idle) &&
        times !== undefined &&
        restoreTime(times, name, now - idle, hasCapacity);
      return hasBucket || hasTime;
    });
  }

  removePeer(text: string): void {
    reserveStack();
    const key = this.keys.find(text);
    this.#tables.remove(key);
    this.offenders.forgive(key);
    this.#pendingBuckets.remove(text);
    this.#pendingTimes.remove(text);
  }

  cleanup(maxAge: number, budgetMs: number, now = monotonicSeconds()): number {
    reserveStack();
    const { messageRatePerSec, messageBurst, orderbookInterval, banDuration } = this.#config;
    const expireBucket = (key: string, place: Place) => {
      if (!(this.#buckets.idle(place, now) > maxAge)) return false;
      return this.#tables.removeBucket(key);
    };
    const expireTime = (key: string, place: Place) => {
      if (!(elapsed(now, this.#allowedAt.at(place)) > maxAge)) return false;
      if (this.offenders.bans.beganAt(key) !== NEVER) return false;
      this.offenders.forgive(key);
      this.#tables.removeTime(key);
      // Only removed buckets are counted.
      return false;
    };
    const expireBan = (_key: string, place: Place) => {
      return elapsed(now, this.offenders.bans.began(place)) > banDuration;
    };
    const passes = [
      pass(this.#buckets, expireBucket),
      pass(this.#allowedAt, expireTime),
      this.offenders.banPass(expireBan),
      this.#pendingBuckets.pass((records, place) => {
        const seconds = records.secondsUntilFull(place, now, messageRatePerSec, messageBurst);
        return records.idle(place, now) > maxAge || seconds === 0;
      }),
      this.#pendingTimes.pass((records, place) => {
        const idle = elapsed(now, records.at(place));
        return idle > maxAge || secondsLeft(orderbookInterval, idle) === 0;
      }),
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
    this.#tables.clear();
    this.#pendingBuckets.clear();
    this.#pendingTimes.clear();
    this.offenders.clear();
    this.sweep.stop();
  }

  protected get peers(): number {
    return this.#tables.size;
  }

  protected get tracked(): number {
    return this.#buckets.size;
  }

  protected restoreOffender(peer: SnapshotPeer, now: number, most: number): boolean {
    reserveStack();
    const key = this.keys.find(peer.key);
    // Removes a ban that is over, because restoring would extend it.
    this.#isBannedForCheck(key, now);
    if (this.#allowedAt.find(key) === undefined) {
      const place = this.#addTime(key, peer.key, NEVER, now, evictionCostOf(peer), most);
      if (place === undefined) return false;
      const at = Math.max(this.#allowedAt.at(place), now - idleSecondsOf(peer));
      this.#allowedAt.set(place, at);
    }
    if (peer.bucket) {
      const { messageRatePerSec, messageBurst } = this.#config;
      const place = this.#buckets.find(key) ?? this.#addBucket(keep(key), peer.key, now);
      if (place === undefined) return false;
      restoreBucket(this.#buckets, place, peer.bucket, now, messageRatePerSec, messageBurst);
    }
    const began = banBegan(peer, now, this.#config.banDuration);
    this.offenders.restore(key, peer.key, peer.violations, began);
    return true;
  }

  #checkOrderbook(key: string, text: string, now: number): Refusal | undefined {
    if (this.#isBannedForCheck(key, now)) {
      reserveStack();
      this.offenders.addViolation(key, text, undefined);
      return this.#disconnect();
    }
    const place = this.#allowedAt.find(key) ?? this.#addTime(key, text, NEVER, now);
    if (place === undefined) return this.#refuseNewcomer();
    if (elapsed(now, this.#allowedAt.at(place)) >= this.#config.orderbookInterval) {
      this.#allowedAt.set(place, now);
      this.counters.allowed += 1;
      return undefined;
    }
    reserveStack();
    const violations = this.offenders.addViolation(key, text, place);
    if (violations < this.#config.orderbookBanThreshold) {
      this.counters.delayed += 1;
      return REFUSED;
    }
    this.offenders.beginBan(key, text, now);
    this.counters.bansBegun += 1;
    this.counters.disconnected += 1;
    return BAN_BEGINS;
  }

  /** Stores a pending bucket under a digest. False if maxPeers buckets or too many secrets are pending. */
  #restorePendingBucket(
    buckets: Buckets | undefined,
    name: string,
    tokens: number,
    lastRefill: number,
  ): boolean {
    if (buckets === undefined) return false;
    const { messageRatePerSec, messageBurst } = this.#config;
    const place = buckets.find(name);
    if (place === undefined) {
      if (this.#pendingBuckets.size >= this.maxPeers) return false;
      buckets.insert(name, tokens, lastRefill);
    } else {
      const saved = { tokens, idleSeconds: 0 };
      restoreBucket(buckets, place, saved, lastRefill, messageRatePerSec, messageBurst);
    }
    return true;
  }

  /** The verdict on a message of a group's member. */
  #verdict(
    places: Places,
    index: number,
    key: string,
    text: string,
    cost: number,
    now: number,
  ): number {
    if (this.#isBannedForCheck(key, now)) {
      this.#disconnect();
      return VERDICT_DISCONNECT;
    }
    const refusal = this.#checkPlace(places, index, key, text, cost, now);
    return refusal === undefined ? VERDICT_ALLOW : VERDICT_DELAY;
  }

  /** Checks a message of a connection that is not banned and has a cached place. */
  #checkPlace(
    places: Places,
    index: number,
    key: string,
    text: string,
    cost: number,
    now: number,
  ): typeof REFUSED | undefined {
    let place: Place | undefined = places[index] as Place;
    if (!this.#buckets.isAt(place, key)) {
      // `key` is a copy already. The table keeps this very string, because V8 compares identical strings in O(1).
      place = this.#buckets.find(key) ?? this.#addBucket(key, text, now);
      if (place === undefined) return this.#refuseNewcomer();
      this.#buckets.nameAt(place, key);
      places[index] = place;
    }
    return this.#consume(place, cost, now);
  }

  /**
   * Adds a bucket for a connection without one: its pending bucket or a full one. Undefined if there are maxPeers
   * connections and none may be evicted.
   */
  #addBucket(key: string, text: string, now: number): Place | undefined {
    reserveStack();
    const place = this.#tables.addBucket(key, now);
    if (place === undefined) return undefined;
    this.#pendingBuckets.take(text, (records, from) =>
      this.#buckets.set(place, records.tokens(from), records.lastRefill(from)),
    );
    this.#restorePending(this.#pendingTimes, this.#allowedAt, text, () =>
      this.#addTime(key, text, NEVER, now),
    );
    return place;
  }

  /** Adds a time for a connection without one: its pending time or `at`. Undefined as for #addBucket(). */
  #addTime(
    key: string,
    text: string,
    at: number,
    now: number,
    newcomerCost = COST_OF_BANNED,
    most = MOST_LOOKED_AT,
  ): Place | undefined {
    reserveStack();
    const place = this.#tables.addTime(key, at, now, newcomerCost, most);
    if (place === undefined) return undefined;
    this.#pendingTimes.take(text, (records, from) => this.#allowedAt.set(place, records.at(from)));
    this.#restorePending(this.#pendingBuckets, this.#buckets, text, () =>
      this.#addBucket(keep(key), text, now),
    );
    return place;
  }

  /** The first record of a connection also restores its pending record in the other table. */
  #restorePending<Records extends Table>(
    pending: PendingRecords<Records>,
    table: Table,
    text: string,
    add: () => void,
  ): void {
    if (pending.isEmpty || table.find(this.keys.find(text)) !== undefined) return;
    if (pending.find(text) !== undefined) add();
  }

  #consume(place: Place, cost: number, now: number): typeof REFUSED | undefined {
    const { messageRatePerSec, messageBurst } = this.#config;
    if (this.#buckets.consume(place, cost, now, messageRatePerSec, messageBurst)) {
      this.counters.allowed += 1;
      return undefined;
    }
    this.counters.delayed += 1;
    return REFUSED;
  }

  #disconnect(): typeof REFUSED {
    this.counters.disconnected += 1;
    return REFUSED;
  }

  #refuseNewcomer(): typeof REFUSED {
    this.counters.refusedNewcomers += 1;
    this.counters.delayed += 1;
    return REFUSED;
  }

  /** Whether a check is refused by a ban. A ban that is over is removed with its violations. */
  #isBannedForCheck(key: string, now: number): boolean {
    const began = this.offenders.bans.beganAt(key);
    if (began === NEVER) return false;
    if (elapsed(now, began) < this.#config.banDuration) return true;
    reserveStack();
    this.offenders.forgive(key);
    return false;
  }
}
