// RateLimiter's decisions. Twin of native/rate-limiter.h: same names, same order of statements.

import { monotonicSeconds } from '../../clock.js';
import type { SnapshotPeer } from '../../types.js';
import {
  DISCONNECT,
  type EngineStatistics,
  type Handle,
  type RateLimiterConfig,
  type RateLimiterCore,
  SEAT,
  VERDICT_ALLOW,
  VERDICT_DELAY,
  VERDICT_DISCONNECT,
} from '../engine.js';
import { NEVER } from './arithmetic.js';
import { LOSS_OF_BANNED, type Loss, SAMPLE, Victim } from './eviction.js';
import { Groups, membersOf, type Places } from './groups.js';
import { keep } from './keys.js';
import { Offenders } from './offenders.js';
import { idleSecondsOf, lossOf, restoreAll } from './records.js';
import { seated } from './seat.js';
import { pass, Sweep } from './sweep.js';
import { Buckets, type Place } from './table.js';
import { Tally } from './tally.js';

export class JsRateLimiter extends Groups implements RateLimiterCore {
  readonly #rate: number;
  readonly #burst: number;
  readonly #threshold: number;
  readonly #maxPeers: number;
  readonly #buckets = new Buckets();
  readonly #offenders: Offenders;
  readonly #sweep = new Sweep();
  readonly #tally = new Tally();

  constructor(config: RateLimiterConfig) {
    super();
    this.#rate = config.rateLimit;
    this.#burst = config.burstLimit;
    this.#threshold = config.disconnectThreshold ?? Infinity;
    this.#maxPeers = config.maxPeers;
    this.#offenders = new Offenders(config.maxPeers, this.#buckets);
  }

  check(key: string, cost = 1, now = monotonicSeconds()): number | undefined {
    const found = this.keys.find(key);
    const place = this.#buckets.find(found) ?? this.#addNewcomer(keep(found), now);
    return this.#decide(place, found, key, cost, now);
  }

  checkPeer(key: string, cost = 1, now = monotonicSeconds()): number | undefined {
    const found = seated(key, this.keys, this.#buckets);
    return this.#checkPlace(SEAT, 0, found, key, cost, now);
  }

  checkGroup(
    group: Handle,
    texts: readonly string[],
    verdicts: Uint8Array,
    cost = 1,
    now = monotonicSeconds(),
  ): void {
    const { keys, places } = membersOf(group);
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
    const place = this.#buckets.find(this.keys.find(key));
    return place === undefined ? 0 : this.#buckets.delaySeconds(place, 1, this.#rate, this.#burst);
  }

  tokens(key: string): number {
    const place = this.#buckets.find(this.keys.find(key));
    return place === undefined ? this.#burst : this.#buckets.tokens(place);
  }

  violations(key: string): number {
    return this.#offenders.violations(this.keys.find(key));
  }

  snapshot(now = monotonicSeconds()): SnapshotPeer[] {
    return this.#offenders.inOrder(now, 0, (key) => {
      const place = this.#buckets.find(key);
      return place === undefined ? Infinity : this.#buckets.idle(place, now);
    });
  }

  restore(peers: readonly SnapshotPeer[], now = monotonicSeconds()): number {
    return restoreAll(peers, (peer) => this.#restore(peer, now));
  }

  removePeer(key: string): void {
    this.#remove(this.keys.find(key));
  }

  cleanup(maxIdle: number, budgetMs: number, now = monotonicSeconds()): number {
    const idle = (key: string, place: Place) => {
      if (!(this.#buckets.idle(place, now) > maxIdle)) return false;
      this.#remove(key);
      return true;
    };
    return this.#sweep.run([pass(this.#buckets, idle)], budgetMs);
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
      ...this.#tally.totals(),
    };
  }

  clear(): void {
    this.#buckets.clear();
    this.#offenders.clear();
    this.#sweep.stop();
  }

  #remove(key: string): void {
    this.#buckets.delete(key);
    this.#offenders.forgive(key);
  }

  #restore(peer: SnapshotPeer, now: number): boolean {
    const key = this.keys.find(peer.key);
    if (this.#buckets.find(key) === undefined) {
      const place = this.#add(keep(key), now, lossOf(peer));
      if (place === undefined) return false;
      this.#buckets.set(place, this.#burst, now - idleSecondsOf(peer));
    }
    this.#offenders.restore(key, peer.key, peer.violations, NEVER);
    return true;
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
      place = this.#buckets.find(key) ?? this.#addNewcomer(key, now);
      this.#buckets.nameAt(place, key);
      places[index] = place;
    }
    return this.#decide(place, key, text, cost, now);
  }

  /** Nobody is banned, so somebody can go. */
  #addNewcomer(key: string, now: number): Place {
    return this.#add(key, now, LOSS_OF_BANNED) as Place;
  }

  /**
   * A bucket for a newcomer, in the place of a peer that is missed less, if there are maxPeers;
   * undefined where nobody is.
   */
  #add(key: string, now: number, worth: Loss): Place | undefined {
    if (this.#buckets.size < this.#maxPeers) return this.#buckets.insert(key, this.#burst, now);
    const victim = new Victim(worth);
    this.#buckets.sample(SAMPLE, (place) => {
      const seconds = this.#buckets.secondsUntilFull(place, now, this.#rate, this.#burst);
      if (!victim.mayBe(seconds)) return false;
      const idle = this.#buckets.idle(place, now);
      return victim.offer(place, this.#offenders.lossOf(place, seconds, seconds, idle, now, 0));
    });
    if (victim.place === undefined) return undefined;
    const evicted = this.#buckets.keyAt(victim.place);
    const place = this.#buckets.insert(key, this.#burst, now, victim.place);
    this.#tally.countEviction(victim.loss);
    this.#offenders.forgive(evicted);
    return place;
  }

  #decide(place: Place, key: string, text: string, cost: number, now: number): number | undefined {
    if (this.#buckets.consume(place, cost, now, this.#rate, this.#burst)) {
      return this.#tally.allow();
    }
    if (this.#offenders.addViolation(key, text) >= this.#threshold) {
      this.#tally.disconnect();
      return DISCONNECT;
    }
    this.#tally.delay();
    return this.#buckets.delaySeconds(place, cost, this.#rate, this.#burst);
  }
}
