// ConnectionTables stores the records of JsDirectLimiter: for each connection a bucket, the time of its last allowed
// orderbook request, or both. The two tables together never hold more than maxPeers connections: a new one evicts
// another one or is refused. Counterpart of native/limiters/connection-tables.h.

import { elapsed, secondsLeft } from '../../tables/arithmetic.js';
import { keep } from '../../tables/keys.js';
import type { Buckets, Place, Table, Times } from '../../tables/table.js';
import type { DirectConfig } from '../engine.js';
import type { Counters } from './counters.js';
import {
  type Admission,
  EvictionCandidate,
  MOST_LOOKED_AT,
  offerSample,
  SAMPLE,
  WITHOUT_EVICTION,
} from './eviction.js';
import { COST_OF_BANNED, type EvictionCost, isZero } from './eviction-cost.js';
import type { Offenders } from './offenders.js';

/** One of the two tables, and what an eviction needs to know about its records. */
interface Side {
  readonly table: Table;
  secondsUntilFresh(place: Place, now: number): number;
  idleSeconds(place: Place, now: number): number;
}

function bucketSide(buckets: Buckets, { messageRatePerSec, messageBurst }: DirectConfig): Side {
  return {
    table: buckets,
    secondsUntilFresh: (place, now) =>
      buckets.secondsUntilFull(place, now, messageRatePerSec, messageBurst),
    idleSeconds: (place, now) => buckets.idle(place, now),
  };
}

function timeSide(times: Times, { orderbookInterval }: DirectConfig): Side {
  const idleSeconds = (place: Place, now: number) => elapsed(now, times.at(place));
  const secondsUntilFresh = (place: Place, now: number) => {
    return secondsLeft(orderbookInterval, idleSeconds(place, now));
  };
  return { table: times, secondsUntilFresh, idleSeconds };
}

export class ConnectionTables {
  readonly buckets: Buckets;
  /** When each connection's last orderbook request was allowed. The notes of Offenders are in this table. */
  readonly allowedAt: Times;
  readonly #config: DirectConfig;
  readonly #maxPeers: number;
  readonly #offenders: Offenders;
  readonly #counters: Counters;
  readonly #bucketSide: Side;
  readonly #timeSide: Side;
  /** The number of connections with a bucket and a time. */
  #inBothTables = 0;

  constructor(
    buckets: Buckets,
    allowedAt: Times,
    config: DirectConfig,
    maxPeers: number,
    offenders: Offenders,
    counters: Counters,
  ) {
    this.buckets = buckets;
    this.allowedAt = allowedAt;
    this.#config = config;
    this.#maxPeers = maxPeers;
    this.#offenders = offenders;
    this.#counters = counters;
    this.#bucketSide = bucketSide(buckets, config);
    this.#timeSide = timeSide(allowedAt, config);
  }

  /** The number of connections. */
  get size(): number {
    return this.buckets.size + this.allowedAt.size - this.#inBothTables;
  }

  /**
   * Adds a full bucket for a connection that has none. If there are maxPeers connections, one with a lower cost is
   * evicted. Undefined if none may be evicted. The table stores this very string as the key.
   */
  addBucket(key: string, now: number): Place | undefined {
    const isKnown = this.allowedAt.find(key) !== undefined;
    const admission = isKnown
      ? WITHOUT_EVICTION
      : this.#admit(this.#bucketSide, this.#timeSide, now, COST_OF_BANNED, MOST_LOOKED_AT);
    if (admission === undefined) return undefined;
    const place = this.buckets.insert(key, this.#config.messageBurst, now, admission.place);
    this.#evict(admission, this.allowedAt);
    if (isKnown) this.#inBothTables += 1;
    return place;
  }

  /** Adds a time for a connection that has none, as addBucket() does, after a search of up to `most` records. */
  addTime(
    key: string,
    at: number,
    now: number,
    newcomerCost: EvictionCost,
    most: number,
  ): Place | undefined {
    const isKnown = this.buckets.find(key) !== undefined;
    const admission = isKnown
      ? WITHOUT_EVICTION
      : this.#admit(this.#timeSide, this.#bucketSide, now, newcomerCost, most);
    if (admission === undefined) return undefined;
    const place = this.allowedAt.insert(keep(key), at, admission.place);
    this.#evict(admission, this.buckets);
    if (isKnown) this.#inBothTables += 1;
    return place;
  }

  /** Removes both records of a connection, but not its offences. */
  remove(key: string): void {
    const hadBucket = this.buckets.delete(key);
    const hadTime = this.allowedAt.delete(key);
    if (hadBucket && hadTime) this.#inBothTables -= 1;
  }

  /** False if the connection has no bucket. */
  removeBucket(key: string): boolean {
    if (this.allowedAt.find(key) !== undefined) this.#inBothTables -= 1;
    return this.buckets.delete(key);
  }

  removeTime(key: string): void {
    if (this.buckets.find(key) !== undefined) this.#inBothTables -= 1;
    this.allowedAt.delete(key);
  }

  clear(): void {
    this.buckets.clear();
    this.allowedAt.clear();
    this.#inBothTables = 0;
  }

  /**
   * Decides whether a new connection may be added. If there are maxPeers connections, one with a lower cost is chosen
   * to be evicted, if possible one with a record in `own`. Undefined if there is none.
   */
  #admit(
    own: Side,
    other: Side,
    now: number,
    newcomerCost: EvictionCost,
    most: number,
  ): Admission | undefined {
    if (this.size < this.#maxPeers) return WITHOUT_EVICTION;
    if (this.#offenders.areAllBanned(this.size, now, this.#config.banDuration)) return undefined;
    const best = new EvictionCandidate(newcomerCost);
    offerSample(own.table, most, best, (place) => this.#offer(best, place, own, other, now));
    // Some connections have a record only in the other table.
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

  /**
   * Removes the evicted connection of an admission. Its record in the newcomer's table, if it had one, was replaced
   * already.
   */
  #evict({ place, evicted }: Admission, other: Table): void {
    if (evicted === undefined) return;
    this.#counters.countEviction(evicted.cost);
    if (other.delete(evicted.key) && place !== undefined) this.#inBothTables -= 1;
    this.#offenders.forgive(evicted.key);
  }

  /** Offers a record for eviction; its connection may have one in the other table too. */
  #offer(best: EvictionCandidate, place: Place, own: Side, other: Side, now: number): boolean {
    const { banDuration } = this.#config;
    if (own === this.#timeSide && this.#offenders.isCertainlyBanned(place, now, banDuration)) {
      return false;
    }
    let seconds = own.secondsUntilFresh(place, now);
    if (!best.canImprove(seconds)) return false;
    let idle = own.idleSeconds(place, now);
    const second = other.table.find(own.table.keyAt(place));
    if (second !== undefined) {
      seconds = Math.max(seconds, other.secondsUntilFresh(second, now));
      idle = Math.min(idle, other.idleSeconds(second, now));
    }
    const timePlace = own === this.#timeSide ? place : second;
    const cost = this.#offenders.evictionCostOf(
      timePlace,
      seconds,
      seconds,
      idle,
      now,
      banDuration,
    );
    return best.offer(place, cost);
  }
}
