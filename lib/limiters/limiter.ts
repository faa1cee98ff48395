// Limiter: the base of the three public limiters. It owns the engine's core, reads the clock, validates keys, and
// reports bans.

import { callSafely } from '../common/callbacks.js';
import { type Clock, readClock } from '../common/clock.js';
import { invalidValue } from '../common/errors.js';
import { hasMethods } from '../common/kinds.js';
import { type CommonOptions, cleanupBudget, requireAge, requireKey } from '../common/options.js';
import type {
  Ban,
  CleanupLimits,
  EngineName,
  LimiterName,
  LimiterOverview,
  LimiterSnapshot,
  SharedTable,
} from '../common/types.js';
import { OFFENDER_LAYOUT, worstFirst } from '../engine/columns.js';
import { BAN_BEGINS, type Engine, type LimiterCore, type Refusal } from '../engine/engine.js';
import { BackgroundCleanup } from './background-cleanup.js';
import { hasBanSubscribers, publishBan } from './ban-channel.js';
import { limiterChanged } from './changes.js';
import { openTable, type SharedMembership } from './shared-table.js';
import { joinSteps, type ReadSnapshot, readSnapshot, writeSnapshot } from './snapshot.js';
import { unlessStalled } from './stalled.js';

/** Peers per slice of a snapshot. A slice takes about a millisecond. */
const SLICE_PEERS = 1000;

/** Limiter has the methods that all limiters share: a type for functions that take any limiter. */
export abstract class Limiter {
  /** The engine that stores the peers of this limiter. */
  readonly engine: EngineName;
  /** The maximum number of peers stored. */
  readonly maxPeers: number;
  /** Subclasses declare the type of their own core. @internal */
  readonly core: LimiterCore;
  readonly #clock: Clock | undefined;
  readonly #onBan: ((ban: Ban) => void) | undefined;
  readonly #background: BackgroundCleanup | undefined;
  readonly #membership: SharedMembership | undefined;
  readonly #name: LimiterName;
  readonly #banDuration: number;
  #isClosed = false;
  /**
   * Called after every refusal that counts a violation, with the length in seconds of the ban that begins with it (0:
   * no ban begins), and after every successful call of `ban`. There is at most one listener: shared bans. @internal
   */
  onRefusal: ((key: string, banSeconds: number) => void) | undefined;
  /** Called after `unban` has ended a ban. The same listener's: shared bans. @internal */
  onUnban: ((key: string) => void) | undefined;

  /** `banDuration` is 0 for a limiter without bans. @internal */
  protected constructor(
    name: LimiterName,
    options: CommonOptions,
    banDuration: number,
    create: (engine: Engine, sharedPath: string | undefined) => LimiterCore,
  ) {
    this.#name = name;
    this.#banDuration = banDuration;
    const { engine, core, membership } = openTable(options, create);
    this.engine = engine;
    this.maxPeers = options.maxPeers;
    this.core = core;
    this.#membership = membership;
    this.#clock = options.clock;
    this.#onBan = options.onBan;
    if (options.cleanup) this.#background = new BackgroundCleanup(this, options.cleanup);
  }

  /**
   * Returns the violations of a peer, at most 2^53 - 1; 0 for an unknown peer. O(1).
   * @throws `ERR_LIMITER_KEY` unless the key is a string.
   */
  getViolationCount(peerKey: string): number {
    requireKey(peerKey);
    return this.core.violations(peerKey);
  }

  /**
   * Removes a peer, including its violations and its ban. An unknown key is no error. O(1).
   * @throws `ERR_LIMITER_KEY` unless the key is a string.
   */
  removePeer(peerKey: string): void {
    requireKey(peerKey);
    this.core.removePeer(peerKey);
  }

  /**
   * Returns the statistics that all limiters share: counts and the peers with the most violations, but no bans. Changes
   * nothing. O(1); O(offenders) if more than fifty of the offenders with the most violations were removed since the
   * last call.
   */
  getOverview(): LimiterOverview {
    const { tracked, ...counts } = this.core.statistics();
    return { trackedPeers: tracked, ...counts };
  }

  /** Removes every peer, including violations and bans. */
  clear(): void {
    this.core.clear();
    limiterChanged(this);
  }

  /**
   * Returns what a restart would lose, as a plain object that survives JSON, the same on either engine and any
   * machine. Offenders are listed by key, in the order of their first violations, except those with an expired ban
   * or a key too long to store. Other peers are listed by a digest of their key, if their bucket or interval needs
   * more than ten seconds to recover. O(n log n) for n peers in one call: use `snapshotSlices` for a hundred
   * thousand peers or more.
   * @throws `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   * @example
   * import { RateLimiter } from 'relay-limiter';
   *
   * const limiter = new RateLimiter();
   * limiter.check('alice', 50);
   * const saved = JSON.stringify(limiter.snapshot());
   * console.log(saved);
   */
  snapshot(): LimiterSnapshot {
    const now = this.now();
    return joinSteps(
      this.#name,
      this.core.snapshot(SLICE_PEERS, () => now),
    );
  }

  /**
   * Returns a snapshot in slices of about a thousand peers. Each slice is a snapshot by itself; restoring all slices in
   * their order restores all peers. A slice takes about a millisecond, and may be empty. The limiter may be used
   * between two slices: each peer is saved as of its own slice, and a peer that is added or removed in the meantime may
   * be missing.
   * @throws `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   * @example
   * import { setImmediate } from 'node:timers/promises';
   * import { RateLimiter } from 'relay-limiter';
   *
   * const limiter = new RateLimiter();
   * const lines: string[] = [];
   * for (const slice of limiter.snapshotSlices()) {
   *   lines.push(JSON.stringify(slice));
   *   await setImmediate(); // pending events run between two slices
   * }
   */
  *snapshotSlices(): Generator<LimiterSnapshot, void, undefined> {
    for (const step of this.core.snapshot(SLICE_PEERS, () => this.now())) {
      yield writeSnapshot(this.#name, step);
    }
  }

  /**
   * Restores the peers of a snapshot and returns how many it restored. The snapshot may be of either engine, of any
   * machine, and of format 1 (without buckets and digests). `onBan` is not called.
   *
   * Offenders are merged with the peers in the limiter: a known peer gets the larger number of violations, the ban that
   * ends later, and the emptier bucket. A peer that the snapshot lists twice is merged in the same way, and counts twice.
   * No ban lasts longer than this limiter's `banDuration`. An entry whose ban has 0 seconds left has expired and is left
   * out. If the limiter may become full, banned peers are restored first, then peers by violations (most first), then by
   * idle time (shortest first).
   *
   * Peers listed by digest are stored outside the table, at most `maxPeers` of them and from at most sixteen limiters,
   * and count as peers from their next check on. A peer that is checked before its digest is restored keeps its current
   * state: restore a limiter before you use it.
   * @throws `ERR_LIMITER_SNAPSHOT` for an invalid snapshot or `ERR_LIMITER_CLOCK`, and then changes nothing;
   * `ERR_LIMITER_MEMORY` if there is no memory for a peer.
   * @example
   * import { RateLimiter } from 'relay-limiter';
   *
   * const saved = JSON.stringify(new RateLimiter().snapshot());
   * const limiter = new RateLimiter();
   * limiter.restore(JSON.parse(saved));
   */
  restore(snapshot: unknown): number {
    return this.#restore(readSnapshot(snapshot, this.#name, this.#banDuration));
  }

  /**
   * Restores the slices of a snapshot in steps of one slice each. The limiter may be used between two steps. First all
   * slices are read, then all are restored; each step yields the number of peers restored so far. Pass the slices of
   * one `snapshotSlices` call, in their order; do not mix limiters.
   * @throws the errors of `restore`. An invalid slice is reported before anything has changed.
   * @example
   * import { setImmediate } from 'node:timers/promises';
   * import { RateLimiter } from 'relay-limiter';
   *
   * const slices = [...new RateLimiter().snapshotSlices()];
   * const limiter = new RateLimiter();
   * let restored = 0;
   * for (restored of limiter.restoreSlices(slices)) await setImmediate();
   * console.log(`${restored} peers restored`);
   */
  *restoreSlices(slices: Iterable<unknown>): Generator<number, void, undefined> {
    if (!isIterable(slices)) {
      throw invalidValue('ERR_LIMITER_SNAPSHOT', 'the slices', slices, 'an iterable of snapshots');
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
    // Offenders come first, so that digests cannot use up their memory.
    let restored = this.core.restore(fits ? peers : worstFirst(peers, OFFENDER_LAYOUT), now);
    for (const columns of digests) restored += this.core.restoreDigests(columns, now);
    return restored;
  }

  /**
   * Whether the last cleanup with a budget stopped before its end, in the background or by a call. The next call with a
   * budget continues from there. A call without a budget does a whole pass of its own. O(1).
   * @example
   * import { setTimeout } from 'node:timers/promises';
   * import { RateLimiter } from 'relay-limiter';
   *
   * const limiter = new RateLimiter();
   * limiter.cleanupOldPeers(3600, { budgetMs: 1 });
   * while (limiter.isCleaning) {
   *   await setTimeout(10); // milliseconds
   *   limiter.cleanupOldPeers(3600, { budgetMs: 1 });
   * }
   */
  get isCleaning(): boolean {
    return this.core.isCleaning();
  }

  /**
   * The table that this limiter shares with other processes; undefined without the option `shared`. Reads the file:
   * O(attached limiters).
   * @example
   * import { OrderbookRateLimiter, removeShared } from 'relay-limiter';
   *
   * const limiter = new OrderbookRateLimiter({ maxPeers: 1000, shared: 'orderbook-example' });
   * console.log(limiter.shared?.attached); // 1, or more if other processes use the table
   * removeShared('orderbook-example'); // only for this example
   */
  get shared(): SharedTable | undefined {
    return this.#membership?.state();
  }

  /**
   * Stops the background cleanup that the option `cleanup` started. The limiter can still be used, so that connections
   * can be served to their end. A second call does nothing, unless the table is shared: then the limiter leaves it, and
   * each later call of another method throws `ERR_LIMITER_SHARED`. The end of the process and garbage collection leave it
   * as well.
   */
  close(): void {
    this.#background?.stop();
    if (this.#isClosed) this.#membership?.leave();
    this.#isClosed = true;
  }

  /** Reads the option `clock`; undefined without one: the engine then reads its own clock. @internal */
  now(): number | undefined {
    const clock = this.#clock;
    return clock === undefined ? undefined : readClock(clock);
  }

  /** @internal */
  protected cleanup(age: number, name: string, limits: CleanupLimits | undefined): number {
    requireAge(age, name);
    const budget = cleanupBudget(limits);
    return this.core.cleanup(age, budget, this.now());
  }

  /** Whether a check that can ban allows. Reports the refusal, and a ban that begins with it. @internal */
  allows(key: string, refusal: Refusal | undefined): boolean {
    if (refusal === undefined) return true;
    const banBegins = refusal === BAN_BEGINS;
    if (banBegins) this.announceBan(key, this.#banDuration);
    this.onRefusal?.(key, banBegins ? this.#banDuration : 0);
    return false;
  }

  /**
   * Reports a ban to the channel and to `onBan`. An exception of `onBan` must not look like a failed check: the check
   * is counted. @internal
   */
  protected announceBan(key: string, banDuration: number): void {
    const isObserved = hasBanSubscribers();
    if (this.#onBan === undefined && !isObserved) return;
    // The ban has begun. Of a table that has just stalled the violations cannot be read.
    const violations = unlessStalled(() => this.core.violations(key), 0);
    const ban = { key, violations, banDuration };
    if (isObserved) publishBan({ limiter: this, ...ban });
    callSafely(() => this.#onBan?.(ban));
  }
}

function isIterable(value: unknown): value is Iterable<unknown> {
  return hasMethods(value, Symbol.iterator);
}
