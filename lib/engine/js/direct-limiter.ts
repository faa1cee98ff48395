// DirectConnectionRateLimiter's decisions. Twin of native/limiters/direct-limiter.h: same names, same order
// of statements.

import { monotonicSeconds } from '../../common/clock.js';
import type { BansInForce, SnapshotPeer } from '../../common/types.js';
import { elapsed, NEVER, secondsLeft } from '../../tables/arithmetic.js';
import { keep } from '../../tables/keys.js';
import { Buckets, MOST_KEYS, type Place, type Table, Times } from '../../tables/table.js';
import type { DigestColumns, OffenderColumns } from '../columns.js';
import {
  BAN_BEGINS,
  type DirectConfig,
  type DirectCore,
  type EngineStatistics,
  type Handle,
  REFUSED,
  type Refusal,
  SLOT_BUFFER,
  type SnapshotStep,
  VERDICT_ALLOW,
  VERDICT_DELAY,
  VERDICT_DISCONNECT,
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
import { COST_OF_BANNED, type EvictionCost, isZero } from './eviction-cost.js';
import { Groups, type Places } from './groups.js';
import { Offenders } from './offenders.js';
import { resolveSlot } from './peer-slot.js';
import { eachDigest, PendingRecords, restoreTime } from './pending.js';
import {
  banBegan,
  evictionCostOf,
  idleSecondsOf,
  restoreAll,
  restoreBucket,
  savedBucket,
} from './records.js';
import { passesOf, saveBucket, saveTime, walk } from './snapshot-walk.js';
import { reserveGroupStack, reserveStack } from './stack.js';
import { pass, Sweep } from './sweep.js';

/** One of the two tables, and what an eviction asks of its records. */
interface Side {
  readonly table: Table;
  secondsUntilFresh(place: Place, now: number): number;
  idle(place: Place, now: number): number;
}

function bucketSide(buckets: Buckets, { messageRatePerSec, messageBurst }: DirectConfig): Side {
  return {
    table: buckets,
    secondsUntilFresh: (place, now) =>
      buckets.secondsUntilFull(place, now, messageRatePerSec, messageBurst),
    idle: (place, now) => buckets.idle(place, now),
  };
}

function timeSide(times: Times, { orderbookInterval }: DirectConfig): Side {
  const idle = (place: Place, now: number) => elapsed(now, times.at(place));
  const secondsUntilFresh = (place: Place, now: number) => {
    return secondsLeft(orderbookInterval, idle(place, now));
  };
  return { table: times, secondsUntilFresh, idle };
}

export class JsDirectLimiter extends Groups implements DirectCore {
  readonly #config: DirectConfig;
  readonly #maxPeers: number;
  readonly #buckets = new Buckets();
  /** When each connection's orderbook request was last allowed. */
  readonly #allowedAt = new Times();
  readonly #pendingBuckets = new PendingRecords(() => new Buckets());
  readonly #pendingTimes = new PendingRecords(() => new Times());
  readonly #offenders: Offenders;
  /** Connections with a bucket and a time. */
  #inBothTables = 0;
  readonly #sweep = new Sweep();
  readonly #counters = new Counters();
  readonly #bucketSide: Side;
  readonly #timeSide: Side;

  constructor(config: DirectConfig, mostKeys = MOST_KEYS) {
    super();
    this.#config = config;
    this.#maxPeers = Math.min(config.maxPeers, mostKeys);
    this.#offenders = new Offenders(config.maxPeers, this.#allowedAt);
    this.#bucketSide = bucketSide(this.#buckets, config);
    this.#timeSide = timeSide(this.#allowedAt, config);
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

  /** A Map needs no place: it has the key's hash at hand, which V8 keeps with the string. */
  checkPeerOrderbook(text: string, now = monotonicSeconds()): Refusal | undefined {
    return this.#checkOrderbook(resolveSlot(text, this.keys, this.#allowedAt), text, now);
  }

  isBanned(text: string, now = monotonicSeconds()): boolean {
    const key = this.keys.find(text);
    const bannedAt = this.#offenders.bans.beganAt(key);
    if (bannedAt === NEVER) return false;
    if (elapsed(now, bannedAt) < this.#config.banDuration) return true;
    reserveStack();
    this.#offenders.liftBan(key);
    return false;
  }

  tokens(key: string): number {
    const place = this.#buckets.find(this.keys.find(key));
    if (place !== undefined) return this.#buckets.tokens(place);
    const found = this.#pendingBuckets.find(key);
    return found === undefined ? this.#config.messageBurst : found.records.tokens(found.place);
  }

  violations(key: string): number {
    return this.#offenders.violations(this.keys.find(key));
  }

  snapshot(most: number, now: () => number | undefined): Iterable<SnapshotStep> {
    const { banDuration, messageRatePerSec: rate, messageBurst, orderbookInterval } = this.#config;
    const of = { keys: this.keys, offenders: this.#offenders, banDuration };
    const describe = (key: string, at: number) => {
      const idle = this.#allowedAt.idleSeconds(key, at);
      const bucket = savedBucket(this.#buckets, this.#buckets.find(key), at, rate, messageBurst);
      return { idleSeconds: idle === Infinity ? null : idle, bucket };
    };
    const saveMessages = saveBucket(rate, messageBurst);
    const { keys } = this;
    const [buckets, pendingBuckets] = [this.#buckets, this.#pendingBuckets];
    const [times, pendingTimes] = [this.#allowedAt, this.#pendingTimes];
    function* passes() {
      yield* passesOf(buckets, pendingBuckets, saveMessages, keys);
      yield* passesOf(times, pendingTimes, saveTime(orderbookInterval), keys);
    }
    return walk({ ...of, describe, passes }, most, now);
  }

  restore(offenders: OffenderColumns, now = monotonicSeconds()): number {
    return restoreAll(offenders, (peer, most) => this.#restore(peer, now, most));
  }

  adopt(secret: Uint32Array): void {
    const awaitsNobody = this.#pendingBuckets.isEmpty && this.#pendingTimes.isEmpty;
    const isEmpty = this.#peers === 0 && this.#offenders.bans.size === 0 && awaitsNobody;
    if (isEmpty) this.keys.adopt(secret);
  }

  restoreDigests(columns: DigestColumns, now = monotonicSeconds()): number {
    const buckets = this.#pendingBuckets.under(columns.secret);
    const times = this.#pendingTimes.under(columns.secret);
    return eachDigest(columns, (name, idle, tokens, bucketIdle) => {
      const hasBucket =
        !Number.isNaN(tokens) && this.#restoreBucket(buckets, name, tokens, now - bucketIdle);
      const hasRoom = this.#pendingTimes.size < this.#maxPeers;
      const hasTime =
        !Number.isNaN(idle) && times !== undefined && restoreTime(times, name, now - idle, hasRoom);
      return hasBucket || hasTime;
    });
  }

  removePeer(key: string): void {
    reserveStack();
    this.#remove(this.keys.find(key));
    this.#pendingBuckets.forget(key);
    this.#pendingTimes.forget(key);
  }

  cleanup(maxAge: number, budgetMs: number, now = monotonicSeconds()): number {
    reserveStack();
    const silent = (key: string, place: Place) => {
      if (!(this.#buckets.idle(place, now) > maxAge)) return false;
      if (this.#allowedAt.find(key) !== undefined) this.#inBothTables -= 1;
      return this.#buckets.delete(key);
    };
    const old = (key: string, place: Place) => {
      if (!(elapsed(now, this.#allowedAt.at(place)) > maxAge)) return false;
      if (this.#offenders.bans.beganAt(key) !== NEVER) return false;
      if (this.#buckets.find(key) !== undefined) this.#inBothTables -= 1;
      this.#offenders.forgive(key);
      this.#allowedAt.delete(key);
      return false;
    };
    const over = (_key: string, place: Place) => {
      return elapsed(now, this.#offenders.bans.began(place)) > this.#config.banDuration;
    };
    const passes = [
      pass(this.#buckets, silent),
      pass(this.#allowedAt, old),
      this.#offenders.banPass(over),
      ...this.#pendingBuckets.passes((records, place) => {
        const { messageRatePerSec, messageBurst } = this.#config;
        const seconds = records.secondsUntilFull(place, now, messageRatePerSec, messageBurst);
        return records.idle(place, now) > maxAge || seconds === 0;
      }),
      ...this.#pendingTimes.passes((records, place) => {
        const idle = elapsed(now, records.at(place));
        return idle > maxAge || secondsLeft(this.#config.orderbookInterval, idle) === 0;
      }),
    ];
    return this.#sweep.run(passes, budgetMs);
  }

  isCleaning(): boolean {
    return this.#sweep.isUnderway;
  }

  statistics(): EngineStatistics {
    return {
      tracked: this.#buckets.size,
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
    this.#buckets.clear();
    this.#allowedAt.clear();
    this.#pendingBuckets.clear();
    this.#pendingTimes.clear();
    this.#offenders.clear();
    this.#sweep.stop();
    this.#inBothTables = 0;
  }

  get #peers(): number {
    return this.#buckets.size + this.#allowedAt.size - this.#inBothTables;
  }

  #remove(key: string): void {
    const hadBucket = this.#buckets.delete(key);
    const hadTime = this.#allowedAt.delete(key);
    if (hadBucket && hadTime) this.#inBothTables -= 1;
    this.#offenders.forgive(key);
  }

  #checkOrderbook(key: string, text: string, now: number): Refusal | undefined {
    if (this.#isBannedForCheck(key, now)) {
      reserveStack();
      this.#offenders.addViolation(key, text);
      return this.#disconnect();
    }
    const place = this.#allowedAt.find(key) ?? this.#addTime(key, text, NEVER, now);
    if (place === undefined) return this.#refuseNewcomer();
    if (elapsed(now, this.#allowedAt.at(place)) >= this.#config.orderbookInterval) {
      this.#allowedAt.set(place, now);
      this.#counters.allowed += 1;
      return undefined;
    }
    reserveStack();
    const violations = this.#offenders.addViolation(key, text);
    if (violations < this.#config.orderbookBanThreshold) {
      this.#counters.delayed += 1;
      return REFUSED;
    }
    this.#offenders.beginBan(key, text, now);
    this.#counters.bansBegun += 1;
    this.#counters.disconnected += 1;
    return BAN_BEGINS;
  }

  #restore(peer: SnapshotPeer, now: number, most: number): boolean {
    reserveStack();
    const key = this.keys.find(peer.key);
    // Or a ban that is over would be lengthened.
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
    this.#offenders.restore(key, peer.key, peer.violations, began);
    return true;
  }

  /** Keeps a bucket under a digest; false where there is no admission for it. */
  #restoreBucket(
    buckets: Buckets | undefined,
    name: string,
    tokens: number,
    lastRefill: number,
  ): boolean {
    if (buckets === undefined) return false;
    const { messageRatePerSec, messageBurst } = this.#config;
    const place = buckets.find(name);
    if (place === undefined) {
      if (this.#pendingBuckets.size >= this.#maxPeers) return false;
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

  /** The check of a connection that is not banned and whose place is remembered. */
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
      // A copy already, and kept as it is: a string is found to equal itself without a look at it.
      place = this.#buckets.find(key) ?? this.#addBucket(key, text, now);
      if (place === undefined) return this.#refuseNewcomer();
      this.#buckets.nameAt(place, key);
      places[index] = place;
    }
    return this.#consume(place, cost, now);
  }

  /**
   * A bucket for a connection that has none: the one that is awaited, or a full one; undefined where there
   * is no admission.
   */
  #addBucket(key: string, text: string, now: number): Place | undefined {
    reserveStack();
    const isKnown = this.#allowedAt.find(key) !== undefined;
    const admission = isKnown
      ? WITHOUT_EVICTION
      : this.#admit(this.#bucketSide, this.#timeSide, now);
    if (admission === undefined) return undefined;
    const place = this.#buckets.insert(key, this.#config.messageBurst, now, admission.place);
    this.#evict(admission, this.#allowedAt);
    if (isKnown) this.#inBothTables += 1;
    this.#pendingBuckets.take(text, (records, from) =>
      this.#buckets.set(place, records.tokens(from), records.lastRefill(from)),
    );
    this.#bring(this.#pendingTimes, this.#allowedAt, text, () =>
      this.#addTime(key, text, NEVER, now),
    );
    return place;
  }

  /**
   * A time for a connection that has none: the one that is awaited, or `at`; undefined where there is no
   * admission.
   */
  #addTime(
    key: string,
    text: string,
    at: number,
    now: number,
    newcomerCost = COST_OF_BANNED,
    most = MOST_LOOKED_AT,
  ): Place | undefined {
    reserveStack();
    const isKnown = this.#buckets.find(key) !== undefined;
    const admission = isKnown
      ? WITHOUT_EVICTION
      : this.#admit(this.#timeSide, this.#bucketSide, now, newcomerCost, most);
    if (admission === undefined) return undefined;
    const place = this.#allowedAt.insert(keep(key), at, admission.place);
    this.#evict(admission, this.#buckets);
    if (isKnown) this.#inBothTables += 1;
    this.#pendingTimes.take(text, (records, from) => this.#allowedAt.set(place, records.at(from)));
    this.#bring(this.#pendingBuckets, this.#buckets, text, () =>
      this.#addBucket(keep(key), text, now),
    );
    return place;
  }

  /** The first record of a connection also restores its pending record in the other table. */
  #bring<Records extends Table>(
    pending: PendingRecords<Records>,
    own: Table,
    text: string,
    add: () => void,
  ): void {
    if (pending.isEmpty || own.find(this.keys.find(text)) !== undefined) return;
    if (pending.find(text) !== undefined) add();
  }

  /**
   * Admission for a newcomer, in the table of `own` if that can be: where there are maxPeers, one that is
   * missed less goes.
   */
  #admit(
    own: Side,
    other: Side,
    now: number,
    newcomerCost: EvictionCost = COST_OF_BANNED,
    most = MOST_LOOKED_AT,
  ): Admission | undefined {
    if (this.#peers < this.#maxPeers) return WITHOUT_EVICTION;
    if (this.#offenders.areAllBanned(this.#peers, now, this.#config.banDuration)) return undefined;
    const best = new EvictionCandidate(newcomerCost);
    offerSample(own.table, most, best, (place) => this.#offer(best, place, own, other, now));
    // Of some connections only the other table knows.
    const bestOther = new EvictionCandidate(best.cost);
    if (!isZero(best.cost) && other.table.size > this.#inBothTables) {
      const others = best.place === undefined ? most : SAMPLE;
      offerSample(other.table, others, bestOther, (place) =>
        this.#offer(bestOther, place, other, own, now),
      );
    }
    if (bestOther.place !== undefined) {
      const key = other.table.keyAt(bestOther.place);
      return { place: own.table.find(key), evicted: { key, cost: bestOther.cost } };
    }
    if (best.place === undefined) return undefined;
    const key = own.table.keyAt(best.place);
    return { place: best.place, evicted: { key, cost: best.cost } };
  }

  /** Whose the admission was is forgotten: its place, if it had one, is the newcomer's already. */
  #evict({ place, evicted }: Admission, other: Table): void {
    if (evicted === undefined) return;
    this.#counters.countEviction(evicted.cost);
    if (other.delete(evicted.key) && place !== undefined) this.#inBothTables -= 1;
    this.#offenders.forgive(evicted.key);
  }

  /** A record of one table, whose connection the other table may know as well. */
  #offer(best: EvictionCandidate, place: Place, own: Side, other: Side, now: number): boolean {
    const { banDuration } = this.#config;
    if (own === this.#timeSide && this.#offenders.isCertainlyBanned(place, now, banDuration))
      return false;
    let seconds = own.secondsUntilFresh(place, now);
    if (!best.canImprove(seconds)) return false;
    let idle = own.idle(place, now);
    const second = other.table.find(own.table.keyAt(place));
    if (second !== undefined) {
      seconds = Math.max(seconds, other.secondsUntilFresh(second, now));
      idle = Math.min(idle, other.idle(second, now));
    }
    // Offenders are noted where the times are.
    const timed = own === this.#timeSide ? place : second;
    const cost = this.#offenders.evictionCostOf(timed, seconds, seconds, idle, now, banDuration);
    return best.offer(place, cost);
  }

  #consume(place: Place, cost: number, now: number): typeof REFUSED | undefined {
    const { messageRatePerSec, messageBurst } = this.#config;
    if (this.#buckets.consume(place, cost, now, messageRatePerSec, messageBurst)) {
      this.#counters.allowed += 1;
      return undefined;
    }
    this.#counters.delayed += 1;
    return REFUSED;
  }

  #disconnect(): typeof REFUSED {
    this.#counters.disconnected += 1;
    return REFUSED;
  }

  #refuseNewcomer(): typeof REFUSED {
    this.#counters.refusedNewcomers += 1;
    this.#counters.delayed += 1;
    return REFUSED;
  }

  /** Whether a ban is in force, as a check sees it: one that is over goes, its violations with it. */
  #isBannedForCheck(key: string, now: number): boolean {
    const bannedAt = this.#offenders.bans.beganAt(key);
    if (bannedAt === NEVER) return false;
    if (elapsed(now, bannedAt) < this.#config.banDuration) return true;
    reserveStack();
    this.#offenders.forgive(key);
    return false;
  }
}
