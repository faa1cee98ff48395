// JsRateLimiter decides the checks of the public class RateLimiter. Counterpart of native/limiters/rate-limiter.h; the
// contract is lib/engine/engine.ts, the contract suite, the traces and the differential test.

import { monotonicSeconds } from '../../common/clock.js';
import type { SnapshotPeer } from '../../common/types.js';
import { NEVER } from '../../tables/arithmetic.js';
import { keep } from '../../tables/keys.js';
import { Buckets, type Place } from '../../tables/table.js';
import type { DigestColumns } from '../columns.js';
import {
  DISCONNECT,
  type Handle,
  type RateLimiterConfig,
  type RateLimiterCore,
  SLOT_BUFFER,
  type SnapshotStep,
  VERDICT_ALLOW,
  VERDICT_DELAY,
  VERDICT_DISCONNECT,
} from '../engine.js';
import { EvictionCandidate, MOST_LOOKED_AT, offerSample } from './eviction.js';
import { COST_OF_BANNED, type EvictionCost } from './eviction-cost.js';
import { GroupLimiter, type Places } from './groups.js';
import { resolveSlot } from './peer-slot.js';
import { eachDigest, type FoundRecord, PendingRecords } from './pending.js';
import { evictionCostOf, idleSecondsOf, restoreBucket, savedBucket } from './records.js';
import { passesOf, saveBucket, walk } from './snapshot-walk.js';
import { reserveGroupStack, reserveStack } from './stack.js';
import { pass } from './sweep.js';

export class JsRateLimiter extends GroupLimiter implements RateLimiterCore {
  readonly #rate: number;
  readonly #burst: number;
  readonly #threshold: number;
  readonly #buckets: Buckets;
  readonly #pending = new PendingRecords(() => new Buckets());

  constructor(config: RateLimiterConfig, mostKeys?: number) {
    const buckets = new Buckets();
    super(config.maxPeers, buckets, mostKeys);
    this.#buckets = buckets;
    this.#rate = config.rateLimit;
    this.#burst = config.burstLimit;
    this.#threshold = config.disconnectThreshold ?? Infinity;
  }

  check(key: string, cost = 1, now = monotonicSeconds()): number | undefined {
    const found = this.keys.find(key);
    const place = this.#buckets.find(found) ?? this.#addBucket(keep(found), key, now);
    return this.#decide(place, found, key, cost, now);
  }

  checkPeer(key: string, cost = 1, now = monotonicSeconds()): number | undefined {
    const found = resolveSlot(key, this.keys, this.#buckets);
    return this.#checkPlace(SLOT_BUFFER, 0, found, key, cost, now);
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
      const key = keys[i] as string;
      const verdict = this.#checkPlace(places, i, key, texts[i] as string, cost, now);
      verdicts[i] =
        verdict === undefined
          ? VERDICT_ALLOW
          : verdict === DISCONNECT
            ? VERDICT_DISCONNECT
            : VERDICT_DELAY;
    }
  }

  delay(key: string): number {
    const found = this.#findBucket(key);
    return found === undefined
      ? 0
      : found.records.delaySeconds(found.place, 1, this.#rate, this.#burst);
  }

  tokens(key: string): number {
    const found = this.#findBucket(key);
    return found === undefined ? this.#burst : found.records.tokens(found.place);
  }

  refilledTokens(key: string, now = monotonicSeconds()): number {
    const found = this.#findBucket(key);
    return found === undefined
      ? this.#burst
      : found.records.refilledTokens(found.place, now, this.#rate, this.#burst);
  }

  snapshot(most: number, now: () => number | undefined): Iterable<SnapshotStep> {
    const { keys, offenders } = this;
    const save = saveBucket(this.#rate, this.#burst);
    const describe = (key: string, at: number) => {
      const place = this.#buckets.find(key);
      const idle = place === undefined ? Infinity : this.#buckets.idle(place, at);
      const bucket = savedBucket(this.#buckets, place, at, this.#rate, this.#burst);
      return { idleSeconds: idle === Infinity ? null : idle, bucket };
    };
    const passes = () => passesOf(this.#buckets, this.#pending, save, keys);
    return walk({ keys, offenders, banDuration: 0, describe, passes }, most, now);
  }

  adopt(secret: Uint32Array): void {
    if (this.#buckets.size === 0 && this.#pending.isEmpty) this.keys.adopt(secret);
  }

  restoreDigests(columns: DigestColumns, now = monotonicSeconds()): number {
    const records = this.#pending.under(columns.secret);
    if (records === undefined) return 0;
    return eachDigest(columns, (name, _, tokens, idleSeconds) => {
      if (Number.isNaN(tokens)) return false;
      const saved = { tokens, idleSeconds };
      const place = records.find(name);
      if (place === undefined && this.#pending.size >= this.maxPeers) return false;
      if (place === undefined) records.insert(name, tokens, now - idleSeconds);
      else restoreBucket(records, place, saved, now, this.#rate, this.#burst);
      return true;
    });
  }

  removePeer(text: string): void {
    reserveStack();
    this.#remove(this.keys.find(text));
    this.#pending.remove(text);
  }

  cleanup(maxIdle: number, budgetMs: number, now = monotonicSeconds()): number {
    reserveStack();
    const expireBucket = (key: string, place: Place) => {
      if (!(this.#buckets.idle(place, now) > maxIdle)) return false;
      this.#remove(key);
      return true;
    };
    const expirePending = (records: Buckets, place: Place) =>
      records.idle(place, now) > maxIdle ||
      records.secondsUntilFull(place, now, this.#rate, this.#burst) === 0;
    const passes = [pass(this.#buckets, expireBucket), this.#pending.pass(expirePending)];
    return this.sweep.run(passes, budgetMs);
  }

  clear(): void {
    reserveStack();
    this.#buckets.clear();
    this.#pending.clear();
    this.offenders.clear();
    this.sweep.stop();
  }

  protected get peers(): number {
    return this.#buckets.size;
  }

  protected get tracked(): number {
    return this.#buckets.size;
  }

  #remove(key: string): void {
    this.#buckets.delete(key);
    this.offenders.forgive(key);
  }

  protected restoreOffender(peer: SnapshotPeer, now: number, most: number): boolean {
    reserveStack();
    const key = this.keys.find(peer.key);
    let place = this.#buckets.find(key);
    if (place === undefined) {
      place = this.#add(keep(key), now, evictionCostOf(peer), most);
      if (place === undefined) return false;
      this.#buckets.set(place, this.#burst, now - idleSecondsOf(peer));
      this.#takePending(place, peer.key);
    }
    if (peer.bucket) restoreBucket(this.#buckets, place, peer.bucket, now, this.#rate, this.#burst);
    this.offenders.restore(key, peer.key, peer.violations, NEVER);
    return true;
  }

  /** The peer's bucket or its pending bucket; undefined if it has neither. */
  #findBucket(text: string): FoundRecord<Buckets> | undefined {
    const place = this.#buckets.find(this.keys.find(text));
    return place === undefined ? this.#pending.find(text) : { records: this.#buckets, place };
  }

  /** Moves the peer's pending bucket, if there is one, to `place`. */
  #takePending(place: Place, text: string): void {
    this.#pending.take(text, (records, from) =>
      this.#buckets.set(place, records.tokens(from), records.lastRefill(from)),
    );
  }

  /** Checks a peer with a cached place. */
  #checkPlace(
    places: Places,
    index: number,
    key: string,
    text: string,
    cost: number,
    now: number,
  ): number | undefined {
    let place = places[index] as Place;
    if (!this.#buckets.isAt(place, key)) {
      // `key` is a copy already. The table keeps this very string, because V8 compares identical strings in O(1).
      place = this.#buckets.find(key) ?? this.#addBucket(key, text, now);
      this.#buckets.nameAt(place, key);
      places[index] = place;
    }
    return this.#decide(place, key, text, cost, now);
  }

  /** Adds a peer's pending bucket or a full one. This limiter has no bans, so it can always evict a peer. */
  #addBucket(key: string, text: string, now: number): Place {
    reserveStack();
    const place = this.#add(key, now, COST_OF_BANNED, MOST_LOOKED_AT) as Place;
    this.#takePending(place, text);
    return place;
  }

  /**
   * Adds a full bucket for a new peer. If there are maxPeers peers, the one with the lowest cost among up to
   * `most` records is evicted. Undefined if none of them has a lower cost than the new peer.
   */
  #add(key: string, now: number, newcomerCost: EvictionCost, most: number): Place | undefined {
    if (this.#buckets.size < this.maxPeers) return this.#buckets.insert(key, this.#burst, now);
    const best = new EvictionCandidate(newcomerCost);
    offerSample(this.#buckets, most, best, (place) => {
      const seconds = this.#buckets.secondsUntilFull(place, now, this.#rate, this.#burst);
      if (!best.canImprove(seconds)) return false;
      const idle = this.#buckets.idle(place, now);
      return best.offer(
        place,
        this.offenders.evictionCostOf(place, seconds, seconds, idle, now, 0),
      );
    });
    if (best.place === undefined) return undefined;
    const evicted = this.#buckets.keyAt(best.place);
    const place = this.#buckets.insert(key, this.#burst, now, best.place);
    this.counters.countEviction(best.cost);
    this.offenders.forgive(evicted);
    return place;
  }

  #decide(place: Place, key: string, text: string, cost: number, now: number): number | undefined {
    if (this.#buckets.consume(place, cost, now, this.#rate, this.#burst)) {
      this.counters.allowed += 1;
      return undefined;
    }
    reserveStack();
    if (this.offenders.addViolation(key, text, place) >= this.#threshold) {
      this.counters.disconnected += 1;
      return DISCONNECT;
    }
    this.counters.delayed += 1;
    return this.#buckets.delaySeconds(place, cost, this.#rate, this.#burst);
  }
}
