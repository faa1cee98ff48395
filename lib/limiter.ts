// What the three facades share: the options of every limiter, keys, time and ban events.

import { type Clock, readOptionalClock } from './clock.js';
import { BAN_BEGINS, type Engine, type LimiterCore, type Refusal } from './engine/engine.js';
import { selectEngine } from './engine/select.js';
import { type CommonOptions, cleanupBudget, requireAge, requireKey } from './options.js';
import type { Ban, CleanupLimits, EngineName } from './types.js';

export abstract class Limiter<Core extends LimiterCore> {
  /** The engine that keeps this limiter's peers. */
  readonly engine: EngineName;
  /** Most peers kept at once. */
  readonly maxPeers: number;
  /** @internal */
  readonly core: Core;
  readonly #clock: Clock | undefined;
  readonly #onBan: ((ban: Ban) => void) | undefined;
  /**
   * Told of every refusal that counts a violation, and for how many seconds a ban begins with it (0: none
   * does). One room may listen, that of shared bans. @internal
   */
  onRefusal: ((key: string, banSeconds: number) => void) | undefined;

  protected constructor(options: CommonOptions, create: (engine: Engine) => Core) {
    const engine = selectEngine(options.engine);
    this.engine = engine.name;
    this.maxPeers = options.maxPeers;
    this.core = create(engine);
    this.#clock = options.clock;
    this.#onBan = options.onBan;
  }

  /**
   * Violations counted for a peer, 0 for an unknown one. O(1).
   * @throws `ERR_LIMITER_KEY` unless the key is a string.
   */
  getViolationCount(peerKey: string): number {
    requireKey(peerKey);
    return this.core.violations(peerKey);
  }

  /**
   * Forgets a peer, with its violations and its ban; unknown keys are no error. O(1).
   * @throws `ERR_LIMITER_KEY` unless the key is a string.
   */
  removePeer(peerKey: string): void {
    requireKey(peerKey);
    this.core.removePeer(peerKey);
  }

  /** Forgets every peer. */
  clear(): void {
    this.core.clear();
  }

  /** One read of the caller's clock; undefined where the engine reads its own. @internal */
  now(): number | undefined {
    return readOptionalClock(this.#clock);
  }

  /** @internal */
  protected cleanup(age: number, name: string, limits: CleanupLimits | undefined): number {
    requireAge(age, name);
    const budget = cleanupBudget(limits);
    return this.core.cleanup(age, budget, this.now());
  }

  /** Whether a check that can ban allows; tells of the ban if one begins with it. @internal */
  allows(key: string, refusal: Refusal | undefined, banDuration: number): boolean {
    if (refusal === undefined) return true;
    const banBegins = refusal === BAN_BEGINS;
    if (banBegins) this.#announceBan(key, banDuration);
    this.onRefusal?.(key, banBegins ? banDuration : 0);
    return false;
  }

  /** What the listener throws must not look like a failed check. */
  #announceBan(key: string, banDuration: number): void {
    if (this.#onBan === undefined) return;
    try {
      this.#onBan({ key, violations: this.core.violations(key), banDuration });
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}
