// What the three facades share: the options of every limiter, keys, time and ban events.

import { safely } from '../common/callbacks.js';
import { type Clock, readOptionalClock } from '../common/clock.js';
import { refused } from '../common/errors.js';
import { hasMethods } from '../common/kinds.js';
import { type CommonOptions, cleanupBudget, requireAge, requireKey } from '../common/options.js';
import type {
  Ban,
  CleanupLimits,
  EngineName,
  LimiterName,
  LimiterOverview,
  LimiterSnapshot,
} from '../common/types.js';
import { BAN_BEGINS, type Engine, type LimiterCore, type Refusal } from '../engine/engine.js';
import { selectEngine } from '../engine/select.js';
import { BackgroundCleanup } from './background-cleanup.js';
import { bansAreWatched, publishBan } from './ban-channel.js';
import {
  joinSteps,
  type ReadSnapshot,
  readSnapshot,
  worstFirst,
  writeSnapshot,
} from './snapshot.js';

/** Peers of a slice of a snapshot: about a millisecond's work. */
const SLICE_PEERS = 1000;

export abstract class Limiter {
  /** The engine that keeps this limiter's peers. */
  readonly engine: EngineName;
  /** Most peers kept at once. */
  readonly maxPeers: number;
  /** Each limiter names its own. @internal */
  readonly core: LimiterCore;
  readonly #clock: Clock | undefined;
  readonly #onBan: ((ban: Ban) => void) | undefined;
  readonly #background: BackgroundCleanup | undefined;
  readonly #name: LimiterName;
  readonly #banDuration: number;
  /**
   * Told of every refusal that counts a violation, and for how many seconds a ban begins with it (0: none
   * does); and of every ban by hand. One room may listen, that of shared bans. @internal
   */
  onRefusal: ((key: string, banSeconds: number) => void) | undefined;

  /** @internal `banDuration`: 0 where nobody is banned. */
  protected constructor(
    name: LimiterName,
    options: CommonOptions,
    banDuration: number,
    create: (engine: Engine) => LimiterCore,
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
   * Returns what a restart would lose, as a plain object that survives JSON, the same on either engine and any
   * machine. Offenders are listed by key, in the order of their first violations, except those with an expired ban
   * or a key too long to store. Other peers are listed by a digest of their key, if their bucket or interval needs
   * more than ten seconds to recover. O(n log n) for n peers in one call: use `snapshotSlices` for a hundred
   * thousand peers or more.
   * @throws `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   * @example
   * const saved = JSON.stringify(limiter.snapshot());
   */
  snapshot(): LimiterSnapshot {
    const now = this.now();
    return joinSteps(
      this.#name,
      this.core.snapshot(SLICE_PEERS, () => now),
    );
  }

  /**
   * Returns the same in slices of about a thousand peers, each a snapshot by itself; to restore them in their order
   * is to restore all. A slice takes about a millisecond. The limiter may be used between two slices: each peer is
   * saved as of its own slice, and a peer that comes or goes meanwhile may be missing. A slice may be empty.
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
   * Restores the peers of a snapshot, of either engine and any machine, and returns how many. Snapshots of the first
   * format, without buckets and digests, are read as well. `onBan` is not called.
   *
   * Offenders are merged into what is there: a known peer's violations become the larger of both, a ban is never
   * shortened, and of two buckets the emptier one stays. No ban lasts longer than this limiter's `banDuration`; one
   * with 0 seconds left is over, and its peer is not restored. If space runs out, banned peers are restored first,
   * then peers by violations (most first), then by idle time (shortest first).
   *
   * Peers under digests wait beside the table, at most `maxPeers` of them and from at most sixteen limiters, and
   * count as peers when they come back. A peer that was checked before its digest is restored keeps its current
   * state: restore a limiter before you use it.
   * @throws `ERR_LIMITER_SNAPSHOT` for what cannot be read whole, `ERR_LIMITER_CLOCK`: then nothing has changed.
   * `ERR_LIMITER_MEMORY` where a peer finds no memory.
   * @example
   * limiter.restore(JSON.parse(saved));
   */
  restore(snapshot: unknown): number {
    return this.#restore(readSnapshot(snapshot, this.#name, this.#banDuration));
  }

  /**
   * Restores slices in steps of one slice each, between which the limiter may be used. First all slices are read, and
   * then all are restored; each step yields how many peers were restored so far. Pass the slices of one
   * `snapshotSlices()` call, in their order; do not mix limiters.
   * @throws as `restore` does. What cannot be read is reported before anything has changed.
   * @example
   * let restored = 0;
   * for (restored of limiter.restoreSlices(slices)) await setImmediate();
   */
  *restoreSlices(slices: Iterable<unknown>): Generator<number, void, undefined> {
    if (!isIterable(slices)) {
      throw refused('ERR_LIMITER_SNAPSHOT', 'the slices', slices, 'an iterable of snapshots');
    }
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
    if (digests[0] !== undefined) this.core.adopt(digests[0].secret);
    // First: no digest takes the memory of an offender.
    let restored = this.core.restore(fits ? peers : worstFirst(peers), now);
    for (const columns of digests) restored += this.core.restoreDigests(columns, now);
    return restored;
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
    if (banBegins) this.announceBan(key, this.#banDuration);
    this.onRefusal?.(key, banBegins ? this.#banDuration : 0);
    return false;
  }

  /** What the listener throws must not look like a failed call. @internal */
  protected announceBan(key: string, banDuration: number): void {
    const watched = bansAreWatched();
    if (this.#onBan === undefined && !watched) return;
    const ban = { key, violations: this.core.violations(key), banDuration };
    if (watched) publishBan({ limiter: this, ...ban });
    safely(() => this.#onBan?.(ban));
  }
}

function isIterable(value: unknown): value is Iterable<unknown> {
  return hasMethods(value, Symbol.iterator);
}
