// OrderbookRateLimiter's decisions. Twin of native/orderbook-limiter.h: same names, same order of
// statements.

import { monotonicSeconds } from '../../clock.js';
import {
  BAN_BEGINS,
  type EngineStatistics,
  type OrderbookConfig,
  type OrderbookCore,
  REFUSED,
  type Refusal,
} from '../engine.js';
import { elapsed, NEVER } from './arithmetic.js';
import { Offenders } from './offenders.js';
import { pass, Sweep } from './sweep.js';
import { store } from './table.js';

export class JsOrderbookLimiter implements OrderbookCore {
  readonly #config: OrderbookConfig;
  /** When each peer was last allowed; NEVER after a ban that is over. */
  readonly #allowedAt = new Map<string, number>();
  readonly #offenders = new Offenders();
  readonly #sweep = new Sweep();

  constructor(config: OrderbookConfig) {
    this.#config = config;
  }

  check(key: string, now = monotonicSeconds()): Refusal | undefined {
    if (this.isBanned(key, now)) {
      this.#offenders.addViolation(key);
      return REFUSED;
    }
    const violations = this.#offenders.violations(key);
    if (violations >= this.#config.violationBanThreshold) {
      this.#offenders.beginBan(key, now);
      return BAN_BEGINS;
    }
    const allowedAt = this.#allowedAt.get(key) ?? NEVER;
    if (elapsed(now, allowedAt) >= this.#effectiveInterval(violations)) {
      store(this.#allowedAt, key, now);
      return undefined;
    }
    this.#offenders.addViolation(key);
    return REFUSED;
  }

  /** A Map needs no place: it has the key's hash at hand, which V8 keeps with the string. */
  checkPeer(key: string, now = monotonicSeconds()): Refusal | undefined {
    return this.check(key, now);
  }

  isBanned(key: string, now = monotonicSeconds()): boolean {
    const bannedAt = this.#offenders.bannedAt(key);
    if (bannedAt === NEVER) return false;
    if (elapsed(now, bannedAt) < this.#config.banDuration) return true;
    this.#offenders.forgive(key);
    try {
      this.#allowedAt.set(key, NEVER);
    } catch {
      // Where there is no memory for it, a peer without an entry is allowed as well.
    }
    return false;
  }

  violations(key: string): number {
    return this.#offenders.violations(key);
  }

  removePeer(key: string): void {
    this.#allowedAt.delete(key);
    this.#offenders.forgive(key);
  }

  cleanup(maxAge: number, budgetMs: number, now = monotonicSeconds()): number {
    const old = (key: string, allowedAt: number) => {
      if (!(elapsed(now, allowedAt) > maxAge)) return false;
      if (this.#offenders.bannedAt(key) === NEVER) this.#offenders.forgive(key);
      return this.#allowedAt.delete(key);
    };
    const over = (key: string, bannedAt: number) => {
      if (!(elapsed(now, bannedAt) > this.#config.banDuration)) return false;
      this.#offenders.forgive(key);
      return false;
    };
    return this.#sweep.run(
      [pass(this.#allowedAt, old), pass(this.#offenders.bans, over)],
      budgetMs,
    );
  }

  isCleaning(): boolean {
    return this.#sweep.isUnderway;
  }

  statistics(now = monotonicSeconds()): EngineStatistics {
    return {
      tracked: this.#allowedAt.size,
      totalViolations: this.#offenders.totalViolations,
      topViolators: this.#offenders.topViolators(),
      banned: this.#offenders.bannedKeys(now, this.#config.banDuration),
    };
  }

  clear(): void {
    this.#allowedAt.clear();
    this.#offenders.clear();
    this.#sweep.stop();
  }

  #effectiveInterval(violations: number): number {
    if (violations < this.#config.violationWarningThreshold) return this.#config.interval;
    if (violations < this.#config.violationSevereThreshold) return this.#config.interval * 6;
    return this.#config.interval * 30;
  }
}
