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
import { Groups, membersOf } from './groups.js';
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
    const found = this.keys.find(key);
    const place = bucketOf(this.#buckets, found, this.#burst, now);
    return this.#decide(place, found, key, cost, now);
  }

  checkPeer(key: string, cost = 1, now = monotonicSeconds()): number | undefined {
    return this.#checkPlace(SEAT, 0, this.keys.find(key), key, cost, now);
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

  violations(key: string): number {
    return this.#offenders.violations(this.keys.find(key));
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

  #remove(key: string): void {
    this.#buckets.delete(key);
    this.#offenders.forgive(key);
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
    const place = recalledBucketOf(this.#buckets, places, index, key, this.#burst, now);
    return this.#decide(place, key, text, cost, now);
  }

  #decide(place: Place, key: string, text: string, cost: number, now: number): number | undefined {
    if (this.#buckets.consume(place, cost, now, this.#rate, this.#burst)) return undefined;
    if (this.#offenders.addViolation(key, text) >= this.#threshold) return DISCONNECT;
    return this.#buckets.delaySeconds(place, cost, this.#rate, this.#burst);
  }
}
