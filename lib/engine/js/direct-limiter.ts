// DirectConnectionRateLimiter's decisions. Twin of native/direct-limiter.h: same names, same order
// of statements.

import { monotonicSeconds } from '../../clock.js';
import {
  BAN_BEGINS,
  type DirectConfig,
  type DirectCore,
  type EngineStatistics,
  type Handle,
  REFUSED,
  type Refusal,
  VERDICT_ALLOW,
  VERDICT_DELAY,
  VERDICT_DISCONNECT,
} from '../engine.js';
import { type Bucket, consume, elapsed, NEVER } from './arithmetic.js';
import { KeyedHandles } from './handles.js';
import { Offenders } from './offenders.js';
import { bucketOf, store } from './records.js';
import { pass, Sweep } from './sweep.js';

export class JsDirectLimiter extends KeyedHandles implements DirectCore {
  readonly #config: DirectConfig;
  readonly #buckets = new Map<string, Bucket>();
  /** When each connection's orderbook request was last allowed. */
  readonly #allowedAt = new Map<string, number>();
  readonly #offenders = new Offenders();
  readonly #sweep = new Sweep();

  constructor(config: DirectConfig) {
    super();
    this.#config = config;
  }

  checkMessage(key: string, cost = 1, now = monotonicSeconds()): typeof REFUSED | undefined {
    return this.#message(key, cost, now) === VERDICT_ALLOW ? undefined : REFUSED;
  }

  checkPeer(_peer: Handle, key: string, cost?: number, now?: number): typeof REFUSED | undefined {
    return this.checkMessage(key, cost, now);
  }

  checkGroup(
    _group: Handle,
    keys: readonly string[],
    verdicts: Uint8Array,
    cost = 1,
    now = monotonicSeconds(),
  ): void {
    keys.forEach((key, i) => {
      verdicts[i] = this.#message(key, cost, now);
    });
  }

  checkOrderbook(key: string, now = monotonicSeconds()): Refusal | undefined {
    if (this.#inBan(key, now)) {
      this.#offenders.addViolation(key);
      return REFUSED;
    }
    const allowedAt = this.#allowedAt.get(key) ?? NEVER;
    if (elapsed(now, allowedAt) >= this.#config.orderbookInterval) {
      store(this.#allowedAt, key, now);
      return undefined;
    }
    const violations = this.#offenders.addViolation(key);
    if (violations < this.#config.orderbookBanThreshold) return REFUSED;
    this.#offenders.beginBan(key, now);
    return BAN_BEGINS;
  }

  isBanned(key: string, now = monotonicSeconds()): boolean {
    const bannedAt = this.#offenders.bannedAt(key);
    if (bannedAt === NEVER) return false;
    if (elapsed(now, bannedAt) < this.#config.banDuration) return true;
    this.#offenders.liftBan(key);
    return false;
  }

  violations(key: string): number {
    return this.#offenders.violations(key);
  }

  removePeer(key: string): void {
    this.#buckets.delete(key);
    this.#allowedAt.delete(key);
    this.#offenders.forgive(key);
  }

  cleanup(maxAge: number, budgetMs: number, now = monotonicSeconds()): number {
    const silent = (key: string, bucket: Bucket) => {
      if (!(elapsed(now, bucket.lastRefill) > maxAge)) return false;
      return this.#buckets.delete(key);
    };
    const old = (key: string, allowedAt: number) => {
      if (!(elapsed(now, allowedAt) > maxAge)) return false;
      if (this.#offenders.bannedAt(key) !== NEVER) return false;
      this.#offenders.forgive(key);
      this.#allowedAt.delete(key);
      return false;
    };
    const over = (key: string, bannedAt: number) => {
      if (!(elapsed(now, bannedAt) > this.#config.banDuration)) return false;
      this.#offenders.forgive(key);
      return false;
    };
    const passes = [
      pass(this.#buckets, silent),
      pass(this.#allowedAt, old),
      pass(this.#offenders.bans, over),
    ];
    return this.#sweep.run(passes, budgetMs);
  }

  statistics(now = monotonicSeconds()): EngineStatistics {
    return {
      tracked: this.#buckets.size,
      totalViolations: this.#offenders.totalViolations,
      topViolators: this.#offenders.topViolators(),
      banned: this.#offenders.bannedKeys(now, this.#config.banDuration),
    };
  }

  clear(): void {
    this.#buckets.clear();
    this.#allowedAt.clear();
    this.#offenders.clear();
    this.#sweep.stop();
  }

  #message(key: string, cost: number, now: number): number {
    if (this.#inBan(key, now)) return VERDICT_DISCONNECT;
    const { messageRatePerSec, messageBurst } = this.#config;
    const bucket = bucketOf(this.#buckets, key, messageBurst, now);
    return consume(bucket, cost, now, messageRatePerSec, messageBurst)
      ? VERDICT_ALLOW
      : VERDICT_DELAY;
  }

  /** Whether a ban is in force, as a check sees it: one that is over goes, its violations with it. */
  #inBan(key: string, now: number): boolean {
    const bannedAt = this.#offenders.bannedAt(key);
    if (bannedAt === NEVER) return false;
    if (elapsed(now, bannedAt) < this.#config.banDuration) return true;
    this.#offenders.forgive(key);
    return false;
  }
}
