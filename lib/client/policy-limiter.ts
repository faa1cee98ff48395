// PolicyLimiter decides when requests to one upstream can be sent, by configured quotas and by what the
// upstream's responses report. UpstreamLimits has the rules, WaitQueue the order; this class joins them.

import { readClock } from '../common/clock.js';
import { isArray } from '../common/kinds.js';
import type { RateLimitInfo } from '../headers/types.js';
import { Activity, closedError } from './activity.js';
import { type Cost, type Costs, inUnit, REQUESTS, readCost } from './cost.js';
import { EventListeners, type LimiterEvent, type LimiterEvents } from './events.js';
import { type Lease, type LeaseEnd, type QuotaLease, useLease } from './lease.js';
import {
  type AcquireOptions,
  anytime,
  type LimiterRequest,
  type LimiterSettings,
  type PolicyLimiterOptions,
  readAcquireOptions,
  readLimiterOptions,
  readUpdateContext,
  requireFunction,
  requireInfo,
  type UpdateContext,
} from './options.js';
import { outerSource } from './outer-source.js';
import { type Policy, readPolicies } from './policies.js';
import { type OuterSource, WaitQueue } from './queue.js';
import { meaningOf, NOTHING } from './response.js';
import type { PolicySnapshot } from './snapshot.js';
import { neverBackwards, secondsUntil } from './time.js';
import { UpstreamLimits } from './upstream-limits.js';

/** The state of a `PolicyLimiter`; a copy. */
export interface PolicyLimiterState {
  /** Seconds for which no request may be sent, because the upstream refused one or sent `Retry-After`. */
  blockedSeconds: number;
  /** Whether requests are limited after a block: first one probe, then more with each good answer. */
  ramping: boolean;
  /** The share of the rate in use; 1 except after refusals that gave no time. */
  rateShare: number;
  /** The number of waiting `acquire` calls. */
  waiting: number;
  /** The number of leases that have not ended. */
  running: number;
}

/**
 * Limits requests to one upstream by several quotas at the same time, each in its own window. It also obeys
 * the limits that the upstream's responses report, which can only make it stricter. Quota is taken when a
 * request is sent, and given back if it never was.
 *
 * @example
 * import { PolicyLimiter } from 'relay-limiter/client';
 * import { parseRateLimitHeaders } from 'relay-limiter/headers';
 *
 * const limiter = new PolicyLimiter({
 *   policies: [
 *     { quota: 10, windowSeconds: 1 },
 *     { quota: 240, windowSeconds: 60 },
 *   ],
 * });
 *
 * const lease = await limiter.acquire({ deadlineSeconds: 30 });
 * try {
 *   const response = await fetch('data:,done'); // any URL of the upstream
 *   limiter.update(parseRateLimitHeaders(response.headers), response.status, { lease });
 *   console.log(await response.text(), limiter.state());
 * } finally {
 *   lease.release();
 * }
 */
export class PolicyLimiter {
  readonly #settings: LimiterSettings;
  /** Each call reads the clock once. */
  readonly #readClock: () => number;
  readonly #limits: UpstreamLimits;
  readonly #queue: WaitQueue<Lease, LimiterRequest>;
  readonly #activity: Activity;
  readonly #events = new EventListeners();
  readonly #changeListeners = new Set<() => void>();

  /** @throws ERR_LIMITER_OPTION if an option is invalid, naming it; ERR_LIMITER_CLOCK */
  constructor(options: PolicyLimiterOptions);
  /** @param pacedSeconds `sliding` paces windows of at most this length @internal */
  constructor(options: PolicyLimiterOptions, pacedSeconds: number);
  constructor(options: PolicyLimiterOptions, pacedSeconds = 0) {
    this.#settings = readLimiterOptions(options, pacedSeconds);
    this.#readClock = neverBackwards(this.#settings.clock);
    this.#limits = new UpstreamLimits(this.#settings, this.#readClock());
    this.#queue = new WaitQueue<Lease, LimiterRequest>(
      {
        now: () => this.#readClock(),
        delay: (now, { cost }) => {
          this.#limits.requireCost(cost);
          return this.#activity.hasPlace ? this.#delay(cost, now) : Infinity;
        },
        backlogDelay: (cost, now) => this.#delay(cost, now),
        fitsBefore: (now, { cost }, first) =>
          this.#activity.hasPlaces(2) && this.#limits.fitsBefore(cost, first.cost, now),
        take: (now, { cost }, outer) => this.#takeLease(cost, now, outer),
        outerOf: (request) => this.#outerOf(request),
      },
      this.#settings,
    );
    this.#activity = new Activity(this.#queue, this.#settings.maxConcurrent, () =>
      this.#events.emit('idle', {}),
    );
  }

  /**
   * Takes `cost` (default 1; see `AcquireOptions.cost`) if it is available now and no `acquire` call is waiting.
   * Returns whether it took it. It cannot be given back, and does not count as running. O(policies).
   * @throws ERR_LIMITER_COST, ERR_LIMITER_CLOCK; then nothing has changed
   */
  tryAcquire(cost: number | Costs = 1): boolean {
    const read = this.#readCost(cost);
    const now = this.#readClock();
    if (!this.#canTake(read, now)) return false;
    const { within } = this.#settings;
    if (within !== undefined) {
      const outer = within.tryLease(cost);
      if (outer === null) return false;
      outer.release();
    }
    this.#limits.take(read, now);
    return true;
  }

  /**
   * Takes `cost` as `tryAcquire` does and returns its lease; null if it is not available now. The option `within` is
   * that of `acquire`.
   * @throws ERR_LIMITER_COST, ERR_LIMITER_OPTION, ERR_LIMITER_CLOCK; then nothing has changed
   */
  tryLease(cost: number | Costs = 1, options?: Pick<AcquireOptions, 'within'>): Lease | null {
    const request =
      options === undefined ? anytime(cost) : readAcquireOptions({ ...options, cost });
    return this.#tryTake(this.#inOwnUnit(request));
  }

  #tryTake(request: LimiterRequest): Lease | null {
    const now = this.#readClock();
    if (!this.#canTake(request.cost, now)) return null;
    const outer = this.#outerOf(request)?.tryTake();
    return outer === null ? null : this.#takeLease(request.cost, now, outer);
  }

  /**
   * Returns the seconds until `cost` (default 1) is available: 0 means now, Infinity means never (the cost exceeds a
   * configured quota). Counts neither the waiting `acquire` calls, which are served first, nor `maxConcurrent`.
   * Changes nothing.
   * @throws ERR_LIMITER_COST, ERR_LIMITER_CLOCK
   */
  delaySeconds(cost: number | Costs = 1): number {
    const read = this.#readCost(cost);
    if (this.#limits.exceededUnit(read) !== undefined) return Infinity;
    const delay = this.#delay(read, this.#readClock());
    return Math.max(delay, this.#settings.within?.delaySeconds(cost) ?? 0);
  }

  /**
   * Returns the seconds before which `units`, split into requests of any size, cannot all be sent, even
   * without other requests. Never Infinity: `units` may exceed a quota. Changes nothing.
   * @throws ERR_LIMITER_COST, ERR_LIMITER_CLOCK
   */
  backlogSeconds(units: number | Costs): number {
    return this.#delay(this.#readCost(units), this.#readClock());
  }

  /**
   * Returns how many whole units (default: of `requests`) `tryAcquire` could take now if no call waited; Infinity
   * without a limit. O(policies x log(quota)). Changes nothing.
   * @throws ERR_LIMITER_CLOCK
   */
  remaining(unit: string = REQUESTS): number {
    if (!this.#activity.hasPlace || this.#activity.isClosed) return 0;
    const own = this.#limits.remaining(unit, this.#readClock());
    return Math.min(own, this.#settings.within?.remaining(unit) ?? Infinity);
  }

  /**
   * Waits for `cost` and a place among `maxConcurrent`, takes them and resolves to their lease. Higher priorities are
   * served first, and within a priority first in, first out, except that a call may use what the first one leaves unused
   * until its turn. Nothing is spent if the promise rejects: with the
   * signal's reason when it aborts, or with an error of these codes. O(log n) with n calls waiting.
   * @throws ERR_LIMITER_DEADLINE (with `retryAfterSeconds`) as soon as the deadline cannot be met,
   * ERR_LIMITER_QUEUE if the queue is full, ERR_LIMITER_CLOSED after `close` or `drain`, ERR_LIMITER_COST for a cost
   * above a quota, ERR_LIMITER_OPTION, ERR_LIMITER_CLOCK
   */
  async acquire(options?: AcquireOptions): Promise<Lease> {
    const request = this.#inOwnUnit(readAcquireOptions(options));
    this.#limits.requireCost(request.cost);
    if (this.#activity.isClosed) throw closedError();
    let isWaiting = false;
    const lease = this.#queue.enqueue(request, () => {
      isWaiting = true;
    });
    if (!isWaiting) return lease;
    this.#activity.wait();
    lease.catch(() => this.#activity.check());
    this.#events.emit('waiting', { waiting: this.#queue.size });
    return lease;
  }

  /**
   * Calls `fn` when the limits allow it, and resolves to its result. The options are those of `acquire`. The lease
   * that `fn` receives ends when its promise settles; `fn` may end it before, by `settle` with the actual cost or by
   * `refund` if it sent nothing.
   * @throws ERR_LIMITER_OPTION if `fn` is not a function, the errors of `acquire`, and what `fn` throws
   */
  async run<T>(fn: (lease: Lease) => T | PromiseLike<T>, options?: AcquireOptions): Promise<T> {
    requireFunction(fn, 'fn');
    return useLease(await this.acquire(options), fn);
  }

  /**
   * Returns a function that calls `fn` by `run`, with the same arguments and `this`. `options` may be a function that
   * returns the options for the arguments of a call.
   * @throws ERR_LIMITER_OPTION if `fn` is not a function
   */
  wrap<A extends unknown[], T, This = unknown>(
    fn: (this: This, ...args: A) => T | PromiseLike<T>,
    options?: AcquireOptions | ((...args: A) => AcquireOptions),
  ): (this: This, ...args: A) => Promise<T> {
    requireFunction(fn, 'fn');
    const run = async (call: () => T | PromiseLike<T>, args: A) =>
      this.run(call, typeof options === 'function' ? options(...args) : options);
    return function (...args) {
      return run(() => fn.apply(this, args), args);
    };
  }

  /**
   * Applies a response's rate limits and status. Call it for every response, good ones too: they end the
   * slower pace after a refusal. Pass the lease if there is one. Nonsensical numbers are ignored.
   * @throws ERR_LIMITER_OPTION for arguments of the wrong type, ERR_LIMITER_CLOCK; then nothing has changed
   */
  update(info: RateLimitInfo, status?: number, context?: UpdateContext): void;
  /**
   * Replaces the configured policies while requests wait and are under way. What is spent is kept: a policy continues
   * that of the same name, else that of the same unit with the same or the closest window. Waiting calls whose cost
   * exceeds a new quota reject with `ERR_LIMITER_COST`.
   * @throws ERR_LIMITER_OPTION, ERR_LIMITER_CLOCK; then nothing has changed
   */
  update(policies: readonly Policy[]): void;
  update(given: RateLimitInfo | readonly Policy[], status?: number, context?: UpdateContext): void {
    if (isArray(given)) {
      const policies = readPolicies(given);
      this.#limits.replacePolicies(policies, this.#readClock());
      this.#notifyChange();
      return;
    }
    const info = given as RateLimitInfo;
    requireInfo(info, status);
    const read = readUpdateContext(context);
    const meaning = meaningOf(info, status, read.ageSeconds, read.refused);
    const now = this.#readClock();
    if (meaning === undefined) return;
    const { within } = this.#settings;
    const lease = read.lease?.outer;
    if (within !== undefined && read.within) {
      within.update(info, status, { ...context, lease, within: false });
    } else {
      // A good answer says to the outer limiter, too, that requests are answered.
      if (!meaning.isRefused) within?.update(NOTHING, status, { lease, refused: false });
      this.#limits.update(meaning, read, now);
      this.#events.onResponse(meaning, status, this.#limits.blockedUntil(now), now);
    }
    this.#notifyChange();
  }

  /**
   * Returns a copy of the limiter's state. Changes nothing.
   * @throws ERR_LIMITER_CLOCK
   */
  state(): PolicyLimiterState {
    const { isRamping, rateShare } = this.#limits.recovery;
    const now = this.#readClock();
    return {
      blockedSeconds: secondsUntil(this.#limits.blockedUntil(now), now),
      ramping: isRamping,
      rateShare,
      waiting: this.#queue.size,
      running: this.#activity.running,
    };
  }

  /**
   * Calls `listener` at every event of that name (see `LimiterEvents`). Returns a function that removes it. What it
   * throws becomes an uncaught exception.
   * @throws ERR_LIMITER_OPTION for an unknown event, or a listener that is not a function
   */
  on<E extends LimiterEvent>(event: E, listener: (event: LimiterEvents[E]) => void): () => void {
    return this.#events.add(event, listener);
  }

  /**
   * Calls `listener` after every refund, release, update and restore, because a delay may have changed then.
   * Returns a function that removes the listener. An error of the listener is thrown by the call that caused
   * the change.
   */
  onChange(listener: () => void): () => void {
    this.#changeListeners.add(listener);
    return () => {
      this.#changeListeners.delete(listener);
    };
  }

  /** Whether fewer than `maxConcurrent` leases are open. */
  get hasPlace(): boolean {
    return this.#activity.hasPlace;
  }

  /** Whether no call waits and no lease is open. */
  get isIdle(): boolean {
    return this.#activity.isIdle;
  }

  /** Whether nothing is spent, blocked or limited by the upstream, and no call waits or runs: as a new limiter. */
  get isFresh(): boolean {
    return this.#activity.isIdle && this.#limits.isFresh(this.#readClock());
  }

  /** Resolves when fewer than `maxQueue` calls wait; at once if that is so. A producer can wait for it. */
  ready(): Promise<void> {
    return this.#queue.whenPlace();
  }

  /** Resolves when no call waits and all leases have ended; at once if that is so. */
  idle(): Promise<void> {
    return this.#activity.whenIdle();
  }

  /** Accepts no new calls, and resolves when the waiting calls have been served and all leases have ended. */
  drain(): Promise<void> {
    return this.#activity.drain();
  }

  /** Accepts no new calls, and rejects the waiting ones with `ERR_LIMITER_CLOSED`. Leases stay valid. */
  close(): void {
    this.#activity.close();
  }

  /**
   * Returns what is spent, blocked and left as plain JSON-safe data, for `restore` after a restart.
   * @throws ERR_LIMITER_CLOCK
   */
  snapshot(): PolicySnapshot {
    const now = this.#readClock();
    return this.#limits.save(now, Math.max(0, readClock(this.#settings.wallClock)));
  }

  /**
   * Replaces the limiter's state by a snapshot. Call it before the first request. The time since the snapshot
   * counts, by the wall clock; if that clock went back, no time has passed. Older leases refund nothing.
   * @throws ERR_LIMITER_SNAPSHOT if the snapshot is invalid, or belongs to other policies, another algorithm
   * or another burst share; ERR_LIMITER_CLOCK; then nothing has changed
   */
  restore(snapshot: object): void {
    this.#limits.restore(snapshot, this.#readClock());
    this.#notifyChange();
  }

  #readCost(given: number | Costs): Cost {
    return inUnit(readCost(given), this.#limits.numberUnit);
  }

  #inOwnUnit(request: LimiterRequest): LimiterRequest {
    const cost = inUnit(request.cost, this.#limits.numberUnit);
    return cost === request.cost ? request : { ...request, cost };
  }

  #canTake(cost: Cost, now: number): boolean {
    if (this.#queue.size > 0 || this.#activity.isClosed || !this.#activity.hasPlace) return false;
    return this.#limits.exceededUnit(cost) === undefined && this.#limits.readyAt(cost, now) <= now;
  }

  #delay(cost: Cost, now: number): number {
    return secondsUntil(this.#limits.readyAt(cost, now), now);
  }

  #takeLease(cost: Cost, now: number, outer: Lease | undefined): QuotaLease {
    const lease = this.#limits.takeLease(cost, now, this.#endLease, outer);
    this.#activity.begin();
    return lease;
  }

  readonly #endLease = (lease: QuotaLease, end: LeaseEnd): void => {
    this.#limits.endLease(lease, end, this.#readClock());
    this.#activity.end();
    this.#notifyChange();
    this.#activity.check();
  };

  #outerOf(request: LimiterRequest): OuterSource | undefined {
    const { within, agingSeconds } = this.#settings;
    if ((within ?? request.within) === undefined) return undefined;
    return outerSource(within, request, agingSeconds, () =>
      this.#limits.idleSeconds(this.#readClock()),
    );
  }

  #notifyChange(): void {
    this.#queue.wake();
    for (const listener of this.#changeListeners) listener();
  }
}
