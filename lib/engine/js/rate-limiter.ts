// RateLimiter's decisions. Twin of native/rate-limiter.h: same names, same order of statements.

import { monotonicSeconds } from '../../clock.js';
import {
  DISCONNECT,
  type EngineStatistics,
  type Handle,
  type RateLimiterConfig,
  type RateLimiterCore,
  VERDICT_ALLOW,
  VERDICT_DELAY,
  VERDICT_DISCONNECT,
} from '../engine.js';
import { type Bucket, consume, delaySeconds, elapsed } from './arithmetic.js';
import { KeyedHandles } from './handles.js';
import { Offenders } from './offenders.js';
import { bucketOf } from './records.js';
import { pass, Sweep } from './sweep.js';

export class JsRateLimiter extends KeyedHandles implements RateLimiterCore {
  readonly #rate: number;
  readonly #burst: number;
  readonly #threshold: number;
  readonly #buckets = new Map<string, Bucket>();
  readonly #offenders = new Offenders();
  readonly #sweep = new Sweep();

  constructor(config: RateLimiterConfig) {
    super();
    this.#rate = config.rateLimit;
    this.#burst = config.burstLimit;
    this.#threshold = config.disconnectThreshold ?? Infinity;
  }

  check(key: string, cost = 1, now = monotonicSeconds()): number | undefined {
    const bucket = bucketOf(this.#buckets, key, this.#burst, now);
    if (consume(bucket, cost, now, this.#rate, this.#burst)) return undefined;
    if (this.#offenders.addViolation(key) >= this.#threshold) return DISCONNECT;
    return delaySeconds(bucket, cost, this.#rate, this.#burst);
  }

  checkPeer(_peer: Handle, key: string, cost?: number, now?: number): number | undefined {
    return this.check(key, cost, now);
  }

  checkGroup(
    _group: Handle,
    keys: readonly string[],
    verdicts: Uint8Array,
    cost = 1,
    now = monotonicSeconds(),
  ): void {
    keys.forEach((key, i) => {
      const verdict = this.check(key, cost, now);
      verdicts[i] =
        verdict === undefined
          ? VERDICT_ALLOW
          : verdict === DISCONNECT
            ? VERDICT_DISCONNECT
            : VERDICT_DELAY;
    });
  }

  delay(key: string): number {
    const bucket = this.#buckets.get(key);
    return bucket === undefined ? 0 : delaySeconds(bucket, 1, this.#rate, this.#burst);
  }

  violations(key: string): number {
    return this.#offenders.violations(key);
  }

  removePeer(key: string): void {
    this.#buckets.delete(key);
    this.#offenders.forgive(key);
  }

  cleanup(maxIdle: number, budgetMs: number, now = monotonicSeconds()): number {
    const idle = (key: string, bucket: Bucket) => {
      if (!(elapsed(now, bucket.lastRefill) > maxIdle)) return false;
      this.removePeer(key);
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
}
