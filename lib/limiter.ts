// What the three facades share: the options of every limiter, keys, time and ban events.

import { BackgroundCleanup } from './background-cleanup.js';
import { bansAreWatched, publishBan } from './ban-channel.js';
import { type Clock, readOptionalClock } from './clock.js';
import { BAN_BEGINS, type Engine, type LimiterCore, type Refusal } from './engine/engine.js';
import { selectEngine } from './engine/select.js';
import { type CommonOptions, cleanupBudget, requireAge, requireKey } from './options.js';
import {
  joinSteps,
  type ReadSnapshot,
  readSnapshot,
  worstFirst,
  writeSnapshot,
} from './snapshot.js';
import { safely } from './surface.js';
import type {
  Ban,
  CleanupLimits,
  EngineName,
  LimiterName,
  LimiterOverview,
  LimiterSnapshot,
} from './types.js';

/** Peers of a slice of a snapshot: about a millisecond's work. */
const SLICE_PEERS = 1000;

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
   * Violations counted for a peer, at most 2^53 - 1; 0 for an unknown one. O(1).
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
   * however many there are. Reads state, changes none. O(1); O(offenders) if more than fifty of the worst
   * were forgotten since the last time.
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
   * What the limiter remembers of its peers, as a plain object that survives JSON, of either engine and any
   * machine: every offender by its key, in the order of the first violations, but those whose ban is over,
   * and those whose key is too long to be kept; and under digests of their keys all others whose bucket is
   * not full, or whose interval is not over, within ten seconds. O(n log n) for n peers, in one call: of a
   * hundred thousand peers and more rather take `snapshotSlices`.
   * @throws `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   */
  snapshot(): LimiterSnapshot {
    const now = this.now();
    return joinSteps(
      this.#name,
      this.core.snapshot(SLICE_PEERS, () => now),
    );
  }

  /**
   * The same in slices of about a thousand peers, each a snapshot by itself; to restore them in
   * their order is to restore all. A slice takes about a millisecond, and between two of them the limiter may be
   * used: every peer is told as of its own slice, and one that comes or goes meanwhile may be missing. A
   * slice may be empty.
   * @throws `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   * @example
   * for (const slice of limiter.snapshotSlices()) {
   *   file.write(`${JSON.stringify(slice)}\n`);
   *   await setImmediate();
   * }
   */
  *snapshotSlices(): Generator<LimiterSnapshot, void, undefined> {
    for (const step of this.core.snapshot(SLICE_PEERS, () => this.now())) {
      yield writeSnapshot(this.#name, step);
    }
  }

  /**
   * Puts the peers of a snapshot back, of either engine and any machine, and returns how many.
   * Offenders are merged into what is there: a known peer's violations become the larger of both, a
   * ban is never shortened, and of two buckets the emptier one stays. No ban lasts longer than this
   * limiter's `banDuration`; one with 0 seconds left is over, and its peer is not put back. Offenders need
   * room as newcomers do; where that is scarce, the banned have it first, then those with the most violations, of
   * these those who were idle the shortest. `onBan` is not called.
   *
   * Peers under digests wait beside the table, at most `maxPeers` of them, and count as peers when
   * they come back; one that has come before stays as it is. Snapshots of the first format, without buckets and
   * digests, are read as well.
   * @throws `ERR_LIMITER_SNAPSHOT` for what cannot be read whole, `ERR_LIMITER_CLOCK`: then nothing
   * has changed. `ERR_LIMITER_MEMORY` where a peer finds no memory.
   */
  restore(snapshot: unknown): number {
    return this.#restore(readSnapshot(snapshot, this.#name, this.#banDuration));
  }

  /**
   * The same of slices, in steps of one slice each, between which the limiter may be used. First all slices
   * are read, and then all are put back; each step yields how many peers were put back so far. Of slices of
   * several limiters nothing good comes: give those of one `snapshotSlices`, in their order.
   * @throws as `restore` does. What cannot be read is told before anything has changed.
   * @example
   * let restored = 0;
   * for (restored of limiter.restoreSlices(slices)) await setImmediate();
   */
  *restoreSlices(slices: Iterable<unknown>): Generator<number, void, undefined> {
    const read: ReadSnapshot[] = [];
    for (const slice of slices) {
      read.push(readSnapshot(slice, this.#name, this.#banDuration));
      yield 0;
    }
    let restored = 0;
    for (const slice of read) {
      restored += this.#restore(slice);
      yield restored;
    }
  }

  #restore({ peers, digests }: ReadSnapshot): number {
    const now = this.now();
    const known = this.core.statistics().peers;
    const fits = known + peers.keys.length <= this.maxPeers;
    let restored = 0;
    // First: a limiter that knows nobody takes over the secret of the first digests.
    for (const columns of digests) restored += this.core.restoreDigests(columns, now);
    return restored + this.core.restore(fits ? peers : worstFirst(peers), now);
  }

  /**
   * Whether the last cleanup with a budget, in the background or by a call, stopped before its end. Another call
   * with a budget goes on from there; one without begins and ends a pass of its own. O(1).
   * @example
   * limiter.cleanupOldPeers(3600, { budgetMs: 1 });
   * while (limiter.isCleaning) {
   *   await setTimeout(10); // of node:timers/promises
   *   limiter.cleanupOldPeers(3600, { budgetMs: 1 });
   * }
   */
  get isCleaning(): boolean {
    return this.core.isCleaning();
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
