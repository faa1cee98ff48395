// RateLimiter's decisions. Twin of native/limiters/rate-limiter.h: same names, same order of statements.

import { monotonicSeconds } from '../../common/clock.js';
import type { SnapshotBucket, SnapshotPeer } from '../../common/types.js';
import { NEVER } from '../../tables/arithmetic.js';
import { keep } from '../../tables/keys.js';
import { Buckets, MOST_KEYS, type Place } from '../../tables/table.js';
import type { DigestColumns, OffenderColumns } from '../columns.js';
import {
  DISCONNECT,
  type EngineStatistics,
  type Handle,
  type RateLimiterConfig,
  type RateLimiterCore,
  SLOT_BUFFER,
  type SnapshotStep,
  VERDICT_ALLOW,
  VERDICT_DELAY,
  VERDICT_DISCONNECT,
} from '../engine.js';
import { Counters } from './counters.js';
import { EvictionCandidate, MOST_LOOKED_AT, offerSample } from './eviction.js';
import { COST_OF_BANNED, type EvictionCost } from './eviction-cost.js';
import { Groups, type Places } from './groups.js';
import { Offenders } from './offenders.js';
import { resolveSlot } from './peer-slot.js';
import { eachDigest, type Pending, PendingRecords } from './pending.js';
import {
  evictionCostOf,
  idleSecondsOf,
  restoreAll,
  restoreBucket,
  savedBucket,
} from './records.js';
import { passesOf, saveBucket, walk } from './snapshot-walk.js';
import { reserveGroupStack, reserveStack } from './stack.js';
import { pass, Sweep } from './sweep.js';

export class JsRateLimiter extends Groups implements RateLimiterCore {
  readonly #rate: number;
  readonly #burst: number;
  readonly #threshold: number;
  readonly #maxPeers: number;
  readonly #buckets = new Buckets();
  readonly #pending = new PendingRecords(() => new Buckets());
  readonly #offenders: Offenders;
  readonly #sweep = new Sweep();
  readonly #counters = new Counters();

  constructor(config: RateLimiterConfig, mostKeys = MOST_KEYS) {
    super();
    this.#rate = config.rateLimit;
    this.#burst = config.burstLimit;
    this.#threshold = config.disconnectThreshold ?? Infinity;
    this.#maxPeers = Math.min(config.maxPeers, mostKeys);
    this.#offenders = new Offenders(config.maxPeers, this.#buckets);
  }

  check(key: string, cost = 1, now = monotonicSeconds()): number | undefined {
    const found = this.keys.find(key);
    const place = this.#buckets.find(found) ?? this.#addNewcomer(keep(found), key, now);
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
    const found = this.#find(key);
    return found === undefined
      ? 0
      : found.records.delaySeconds(found.place, 1, this.#rate, this.#burst);
  }

  tokens(key: string): number {
    const found = this.#find(key);
    return found === undefined ? this.#burst : found.records.tokens(found.place);
  }

  violations(key: string): number {
    return this.#offenders.violations(this.keys.find(key));
  }

  snapshot(most: number, now: () => number | undefined): Iterable<SnapshotStep> {
    const of = { keys: this.keys, offenders: this.#offenders, banDuration: 0 };
    const save = saveBucket(this.#rate, this.#burst);
    const describe = (key: string, at: number) => {
      const place = this.#buckets.find(key);
      const idle = place === undefined ? Infinity : this.#buckets.idle(place, at);
      const bucket = this.#savedBucket(place, at);
      return { idleSeconds: idle === Infinity ? null : idle, bucket };
    };
    const passes = () => passesOf(this.#buckets, this.#pending, save, this.keys);
    return walk({ ...of, describe, passes }, most, now);
  }

  restore(offenders: OffenderColumns, now = monotonicSeconds()): number {
    return restoreAll(offenders, (peer, most) => this.#restore(peer, now, most));
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
      if (place === undefined && this.#pending.size >= this.#maxPeers) return false;
      if (place === undefined) records.insert(name, tokens, now - idleSeconds);
      else restoreBucket(records, place, saved, now, this.#rate, this.#burst);
      return true;
    });
  }

  removePeer(key: string): void {
    reserveStack();
    this.#remove(this.keys.find(key));
    this.#pending.forget(key);
  }

  cleanup(maxIdle: number, budgetMs: number, now = monotonicSeconds()): number {
    reserveStack();
    const idle = (key: string, place: Place) => {
      if (!(this.#buckets.idle(place, now) > maxIdle)) return false;
      this.#remove(key);
      return true;
    };
    const useless = (records: Buckets, place: Place) =>
      records.idle(place, now) > maxIdle ||
      records.secondsUntilFull(place, now, this.#rate, this.#burst) === 0;
    const passes = [pass(this.#buckets, idle), ...this.#pending.passes(useless)];
    return this.#sweep.run(passes, budgetMs);
  }

  isCleaning(): boolean {
    return this.#sweep.isUnderway;
  }

  statistics(): EngineStatistics {
    return {
      tracked: this.#buckets.size,
      peers: this.#buckets.size,
      unnamedOffenders: this.#offenders.unnamed,
      totalViolations: this.#offenders.totalViolations,
      topViolators: this.#offenders.topViolators(),
      ...this.#counters.totals(),
    };
  }

  clear(): void {
    reserveStack();
    this.#buckets.clear();
    this.#pending.clear();
    this.#offenders.clear();
    this.#sweep.stop();
  }

  #remove(key: string): void {
    this.#buckets.delete(key);
    this.#offenders.forgive(key);
  }

  #restore(peer: SnapshotPeer, now: number, most: number): boolean {
    reserveStack();
    const key = this.keys.find(peer.key);
    let place = this.#buckets.find(key);
    if (place === undefined) {
      place = this.#add(keep(key), now, evictionCostOf(peer), most);
      if (place === undefined) return false;
      this.#buckets.set(place, this.#burst, now - idleSecondsOf(peer));
      this.#recall(place, peer.key);
    }
    if (peer.bucket) restoreBucket(this.#buckets, place, peer.bucket, now, this.#rate, this.#burst);
    this.#offenders.restore(key, peer.key, peer.violations, NEVER);
    return true;
  }

  /** The peer's bucket, which may be awaited; undefined if it has none. */
  #find(text: string): Pending<Buckets> | undefined {
    const place = this.#buckets.find(this.keys.find(text));
    return place === undefined ? this.#pending.find(text) : { records: this.#buckets, place };
  }

  /** Gives a bucket the numbers of the one that is awaited of its peer, if there is one. */
  #recall(place: Place, text: string): void {
    this.#pending.take(text, (records, from) =>
      this.#buckets.set(place, records.tokens(from), records.lastRefill(from)),
    );
  }

  #savedBucket(place: Place | undefined, now: number): SnapshotBucket | null {
    return savedBucket(this.#buckets, place, now, this.#rate, this.#burst);
  }

  /** The check of a peer whose place is remembered. */
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
      // A copy already, and kept as it is: a string is found to equal itself without a look at it.
      place = this.#buckets.find(key) ?? this.#addNewcomer(key, text, now);
      this.#buckets.nameAt(place, key);
      places[index] = place;
    }
    return this.#decide(place, key, text, cost, now);
  }

  /** Nobody is banned, so somebody can go. */
  #addNewcomer(key: string, text: string, now: number): Place {
    reserveStack();
    const place = this.#add(key, now, COST_OF_BANNED, MOST_LOOKED_AT) as Place;
    this.#recall(place, text);
    return place;
  }

  /**
   * A bucket for a newcomer, in the place of a peer that is missed less, if there are maxPeers;
   * undefined where nobody is.
   */
  #add(key: string, now: number, newcomerCost: EvictionCost, most: number): Place | undefined {
    if (this.#buckets.size < this.#maxPeers) return this.#buckets.insert(key, this.#burst, now);
    const best = new EvictionCandidate(newcomerCost);
    offerSample(this.#buckets, most, best, (place) => {
      const seconds = this.#buckets.secondsUntilFull(place, now, this.#rate, this.#burst);
      if (!best.canImprove(seconds)) return false;
      const idle = this.#buckets.idle(place, now);
      return best.offer(
        place,
        this.#offenders.evictionCostOf(place, seconds, seconds, idle, now, 0),
      );
    });
    if (best.place === undefined) return undefined;
    const evicted = this.#buckets.keyAt(best.place);
    const place = this.#buckets.insert(key, this.#burst, now, best.place);
    this.#counters.countEviction(best.cost);
    this.#offenders.forgive(evicted);
    return place;
  }

  #decide(place: Place, key: string, text: string, cost: number, now: number): number | undefined {
    if (this.#buckets.consume(place, cost, now, this.#rate, this.#burst)) {
      this.#counters.allowed += 1;
      return undefined;
    }
    reserveStack();
    if (this.#offenders.addViolation(key, text) >= this.#threshold) {
      this.#counters.disconnected += 1;
      return DISCONNECT;
    }
    this.#counters.delayed += 1;
    return this.#buckets.delaySeconds(place, cost, this.#rate, this.#burst);
  }
}
