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
  SEAT,
  VERDICT_ALLOW,
  VERDICT_DELAY,
  VERDICT_DISCONNECT,
} from '../engine.js';
import { elapsed, NEVER } from './arithmetic.js';
import { Groups, placesOf } from './groups.js';
import { Offenders } from './offenders.js';
import { bucketOf, type Places, recalledBucketOf } from './records.js';
import { pass, Sweep } from './sweep.js';
import { Buckets, type Place, store } from './table.js';

export class JsDirectLimiter extends Groups implements DirectCore {
  readonly #config: DirectConfig;
  readonly #buckets = new Buckets();
  /** When each connection's orderbook request was last allowed. */
  readonly #allowedAt = new Map<string, number>();
  readonly #offenders = new Offenders();
  readonly #sweep = new Sweep();

  constructor(config: DirectConfig) {
    super();
    this.#config = config;
  }

  checkMessage(key: string, cost = 1, now = monotonicSeconds()): typeof REFUSED | undefined {
    if (this.#inBan(key, now)) return REFUSED;
    const place = bucketOf(this.#buckets, key, this.#config.messageBurst, now);
    return this.#consume(place, cost, now) ? undefined : REFUSED;
  }

  checkPeer(key: string, cost = 1, now = monotonicSeconds()): typeof REFUSED | undefined {
    const verdict = this.#checkPlace(SEAT, 0, key, cost, now);
    return verdict === VERDICT_ALLOW ? undefined : REFUSED;
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
      verdicts[i] = this.#checkPlace(places, i, keys[i] as string, cost, now);
    }
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

  /** A Map needs no place: it has the key's hash at hand, which V8 keeps with the string. */
  checkPeerOrderbook(key: string, now = monotonicSeconds()): Refusal | undefined {
    return this.checkOrderbook(key, now);
  }

  isBanned(key: string, now = monotonicSeconds()): boolean {
    const bannedAt = this.#offenders.bannedAt(key);
    if (bannedAt === NEVER) return false;
    if (elapsed(now, bannedAt) < this.#config.banDuration) return true;
    this.#offenders.liftBan(key);
    return false;
  }

  tokens(key: string): number {
    const place = this.#buckets.find(key);
    return place === undefined ? this.#config.messageBurst : this.#buckets.tokens(place);
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
    const silent = (key: string, place: Place) => {
      if (!(this.#buckets.idle(place, now) > maxAge)) return false;
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

  isCleaning(): boolean {
    return this.#sweep.isUnderway;
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

  /** The verdict on a message of a connection whose place is remembered. */
  #checkPlace(places: Places, index: number, key: string, cost: number, now: number): number {
    if (this.#inBan(key, now)) return VERDICT_DISCONNECT;
    const { messageBurst } = this.#config;
    const place = recalledBucketOf(this.#buckets, places, index, key, messageBurst, now);
    return this.#consume(place, cost, now) ? VERDICT_ALLOW : VERDICT_DELAY;
  }

  #consume(place: Place, cost: number, now: number): boolean {
    const { messageRatePerSec, messageBurst } = this.#config;
    return this.#buckets.consume(place, cost, now, messageRatePerSec, messageBurst);
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
