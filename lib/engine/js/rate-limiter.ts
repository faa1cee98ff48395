// RateLimiter's decisions. Twin of native/rate-limiter.h: same names, same order of statements.

import { monotonicSeconds } from '../../clock.js';
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
import { Groups, placesOf } from './groups.js';
import { Offenders } from './offenders.js';
import { bucketOf, type Places, recalledBucketOf } from './records.js';
import { pass, Sweep } from './sweep.js';
import { Buckets, type Place } from './table.js';

export class JsRateLimiter extends Groups implements RateLimiterCore {
  readonly #rate: number;
  readonly #burst: number;
  readonly #threshold: number;
  readonly #buckets = new Buckets();
  readonly #offenders = new Offenders();
  readonly #sweep = new Sweep();

  constructor(config: RateLimiterConfig) {
    super();
    this.#rate = config.rateLimit;
    this.#burst = config.burstLimit;
    this.#threshold = config.disconnectThreshold ?? Infinity;
  }

  check(key: string, cost = 1, now = monotonicSeconds()): number | undefined {
    return this.#decide(bucketOf(this.#buckets, key, this.#burst, now), key, cost, now);
  }

  checkPeer(key: string, cost = 1, now = monotonicSeconds()): number | undefined {
    return this.#checkPlace(SEAT, 0, key, cost, now);
  }

  checkGroup(
    group: Handle,
    keys: readonly string[],
    verdicts: Uint8Array,
    cost = 1,
    now = monotonicSeconds(),
  ): void {
    const places = placesOf(group);
    for (let i = 0; i < keys.length; i += 1) {
      const verdict = this.#checkPlace(places, i, keys[i] as string, cost, now);
      verdicts[i] =
        verdict === undefined
          ? VERDICT_ALLOW
          : verdict === DISCONNECT
            ? VERDICT_DISCONNECT
            : VERDICT_DELAY;
    }
  }

  delay(key: string): number {
    const place = this.#buckets.find(key);
    return place === undefined ? 0 : this.#buckets.delaySeconds(place, 1, this.#rate, this.#burst);
  }

  tokens(key: string): number {
    const place = this.#buckets.find(key);
    return place === undefined ? this.#burst : this.#buckets.tokens(place);
  }

  violations(key: string): number {
    return this.#offenders.violations(key);
  }

  removePeer(key: string): void {
    this.#buckets.delete(key);
    this.#offenders.forgive(key);
  }

  cleanup(maxIdle: number, budgetMs: number, now = monotonicSeconds()): number {
    const idle = (key: string, place: Place) => {
      if (!(this.#buckets.idle(place, now) > maxIdle)) return false;
      this.removePeer(key);
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
      totalViolations: this.#offenders.totalViolations,
      topViolators: this.#offenders.topViolators(),
      banned: [],
    };
  }

  clear(): void {
    this.#buckets.clear();
    this.#offenders.clear();
    this.#sweep.stop();
  }

  /** The check of a peer whose place is remembered. */
  #checkPlace(
    places: Places,
    index: number,
    key: string,
    cost: number,
    now: number,
  ): number | undefined {
    const place = recalledBucketOf(this.#buckets, places, index, key, this.#burst, now);
    return this.#decide(place, key, cost, now);
  }

  #decide(place: Place, key: string, cost: number, now: number): number | undefined {
    if (this.#buckets.consume(place, cost, now, this.#rate, this.#burst)) return undefined;
    if (this.#offenders.addViolation(key) >= this.#threshold) return DISCONNECT;
    return this.#buckets.delaySeconds(place, cost, this.#rate, this.#burst);
  }
}
