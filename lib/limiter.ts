// What the three facades share: the options of every limiter, keys, time and ban events.

import { BackgroundCleanup } from './background-cleanup.js';
import { bansAreWatched, publishBan } from './ban-channel.js';
import { type Clock, readOptionalClock } from './clock.js';
import { BAN_BEGINS, type Engine, type LimiterCore, type Refusal } from './engine/engine.js';
import { selectEngine } from './engine/select.js';
import { type CommonOptions, cleanupBudget, requireAge, requireKey } from './options.js';
import { readSnapshot, worstFirst } from './snapshot.js';
import { safely } from './surface.js';
import type {
  Ban,
  CleanupLimits,
  EngineName,
  LimiterName,
  LimiterOverview,
  LimiterSnapshot,
} from './types.js';

export abstract class Limiter<Core extends LimiterCore> {
  /** The engine that keeps this limiter's peers. */
  readonly engine: EngineName;
  /** Most peers kept at once. */
  readonly maxPeers: number;
  /** @internal */
  readonly core: Core;
  readonly #clock: Clock | undefined;
  readonly #onBan: ((ban: Ban) => void) | undefined;
  readonly #background: BackgroundCleanup | undefined;
  readonly #name: LimiterName;
  readonly #banDuration: number;
  /**
   * Told of every refusal that counts a violation, and for how many seconds a ban begins with it (0: none
   * does). One room may listen, that of shared bans. @internal
   */
  onRefusal: ((key: string, banSeconds: number) => void) | undefined;

  /** @internal `banDuration`: 0 where nobody is banned. */
  protected constructor(
    name: LimiterName,
    options: CommonOptions,
    banDuration: number,
    create: (engine: Engine) => Core,
  ) {
    this.#name = name;
    this.#banDuration = banDuration;
    const engine = selectEngine(options.engine);
    this.engine = engine.name;
    this.maxPeers = options.maxPeers;
    this.core = create(engine);
    this.#clock = options.clock;
    this.#onBan = options.onBan;
    if (options.cleanup) this.#background = new BackgroundCleanup(this, options.cleanup);
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

  /**
   * What all limiters tell alike: counts and the worst offenders, but no bans, so it costs the same
   * however many there are. Reads state, changes none. O(1) on the native engine, where few of the worst
   * were forgotten since the last time; O(offenders) on the TypeScript one.
   */
  getOverview(): LimiterOverview {
    const { tracked, ...counts } = this.core.statistics();
    return { trackedPeers: tracked, ...counts };
  }

  /** Forgets every peer. */
  clear(): void {
    this.core.clear();
  }

  /**
   * The offenders, as a plain object that survives JSON: every peer with violations or a ban, but
   * those whose ban is over, and those whose key is too long to be kept. Buckets and intervals of
   * others are not in it: they are full, or over, within seconds. In the order of their first
   * violations; that of bans is told by what they have left, so of two that began at the very same
   * instant it is lost. O(n log n) for n offenders.
   * @throws `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   */
  snapshot(): LimiterSnapshot {
    return { format: 1, limiter: this.#name, peers: this.core.snapshot(this.now()) };
  }

  /**
   * Puts the offenders of a snapshot back, of either engine and any machine, and returns how many.
   * They are merged into what is there: a known peer's violations become the larger of both, and a
   * ban is never shortened. None lasts longer than this limiter's `banDuration`; one with 0 seconds
   * left is over, and its peer is not put back. Peers need room as newcomers do; where that is
   * scarce, the banned have it first, then those with the most violations, of these those who were
   * idle the shortest. `onBan` is not called.
   * @throws `ERR_LIMITER_SNAPSHOT` for what cannot be read whole, `ERR_LIMITER_CLOCK`: then nothing
   * has changed. `ERR_LIMITER_MEMORY` where a peer finds no memory.
   */
  restore(snapshot: unknown): number {
    const peers = readSnapshot(snapshot, this.#name, this.#banDuration);
    const now = this.now();
    const known = this.core.statistics().peers;
    const fits = known + peers.length <= this.maxPeers;
    return this.core.restore(fits ? peers : worstFirst(peers), now);
  }

  /**
   * Ends the cleanup in the background, where the option `cleanup` has begun one. The limiter goes on
   * answering. Closing twice is fine.
   */
  close(): void {
    this.#background?.stop();
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
  allows(key: string, refusal: Refusal | undefined): boolean {
    if (refusal === undefined) return true;
    const banBegins = refusal === BAN_BEGINS;
    if (banBegins) this.#announceBan(key);
    this.onRefusal?.(key, banBegins ? this.#banDuration : 0);
    return false;
  }

  /** What the listener throws must not look like a failed check. */
  #announceBan(key: string): void {
    const watched = bansAreWatched();
    if (this.#onBan === undefined && !watched) return;
    const ban = { key, violations: this.core.violations(key), banDuration: this.#banDuration };
    if (watched) publishBan({ limiter: this, ...ban });
    safely(() => this.#onBan?.(ban));
  }
}
