// PolicyLimiter decides when requests to one upstream can be sent, by configured quotas and by what the
// upstream's responses report.

import { readClock } from '../common/clock.js';
import { requireCost } from '../common/options.js';
import type { RateLimitInfo } from '../headers/types.js';
import { type Lease, OpenLeases, QuotaLease } from './lease.js';
import {
  type AcquireOptions,
  costTooHigh,
  type LimiterSettings,
  type PolicyLimiterOptions,
  readAcquireOptions,
  readLimiterOptions,
  readUpdateContext,
  requireInfo,
  type UpdateContext,
} from './options.js';
import { WaitQueue } from './queue.js';
import { Recovery } from './recovery.js';
import { meaningOf } from './response.js';
import { type AnsweredRequest, ServerPolicies } from './server-policies.js';
import { invalidSnapshot, type PolicySnapshot, readSnapshot, writeSnapshot } from './snapshot.js';
import { secondsUntil } from './time.js';
import { createQuotas, type Quotas, restoreQuotas } from './windows/index.js';

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
  readonly #smallestQuota: number;
  #quotas: Quotas;
  readonly #openLeases = new OpenLeases<QuotaLease>((lease) => this.#markCounted(lease));
  readonly #serverPolicies: ServerPolicies;
  #recovery: Recovery;
  readonly #queue: WaitQueue<Lease>;
  readonly #listeners = new Set<() => void>();
  /** The number of the last request. Requests are numbered from 1. */
  #lastNumber = 0;
  /** The units sent, and those of them that the server is assumed to have counted. */
  #sentUnits = 0;
  #countedUnits = 0;
  #latestTime = -Infinity;

  /** @throws ERR_LIMITER_OPTION if an option is invalid, naming it; ERR_LIMITER_CLOCK */
  constructor(options: PolicyLimiterOptions) {
    this.#settings = readLimiterOptions(options);
    const { policies } = this.#settings;
    this.#smallestQuota = Math.min(...policies.map(({ quota }) => quota));
    this.#serverPolicies = new ServerPolicies(this.#settings, policies, this.#openLeases);
    this.#recovery = this.#createRecovery();
    this.#quotas = createQuotas(this.#settings, this.#windows(), this.#readClock());
    this.#queue = new WaitQueue<Lease>(
      {
        now: () => this.#readClock(),
        delay: (cost, now) => this.#delay(cost, now),
        take: (cost, now) => this.#takeLease(cost, now),
      },
      this.#settings,
    );
  }

  /**
   * Takes `cost` units (default 1; finite, at least 0) if they are available now and no `acquire` call is
   * waiting. Returns whether it took them. They cannot be given back. O(policies); allocates nothing.
   * @throws ERR_LIMITER_COST, ERR_LIMITER_CLOCK; then nothing has changed
   */
  tryAcquire(cost = 1): boolean {
    requireCost(cost);
    const now = this.#readClock();
    if (!this.#canTake(cost, now)) return false;
    this.#take(cost, now);
    this.#countedUnits += cost;
    return true;
  }

  /**
   * Takes `cost` units as `tryAcquire` does and returns their lease; null if they are not available now.
   * @throws ERR_LIMITER_COST, ERR_LIMITER_CLOCK; then nothing has changed
   */
  tryLease(cost = 1): Lease | null {
    requireCost(cost);
    const now = this.#readClock();
    return this.#canTake(cost, now) ? this.#takeLease(cost, now) : null;
  }

  /**
   * Returns the seconds until `cost` units (default 1) are available: 0 means now, Infinity means never (the
   * cost exceeds a configured quota). Does not count the waiting `acquire` calls, which are served first.
   * Changes nothing.
   * @throws ERR_LIMITER_COST, ERR_LIMITER_CLOCK
   */
  delaySeconds(cost = 1): number {
    requireCost(cost);
    if (cost > this.#smallestQuota) return Infinity;
    return this.#delay(cost, this.#readClock());
  }

  /**
   * Returns the seconds before which `units`, split into requests of any size, cannot all be sent, even
   * without other requests. Never Infinity: `units` may exceed a quota. Changes nothing.
   * @throws ERR_LIMITER_COST, ERR_LIMITER_CLOCK
   */
  backlogSeconds(units: number): number {
    requireCost(units);
    return this.#delay(units, this.#readClock());
  }

  /**
   * Waits for `cost` units, takes them and resolves to their lease. Higher priorities are served first, and
   * within a priority first in, first out. A waiting call keeps the process alive. Nothing is spent if the
   * promise rejects: with the signal's reason when it aborts, or with an error of these codes.
   * @throws ERR_LIMITER_DEADLINE (with `retryAfterSeconds`) as soon as the deadline cannot be met,
   * ERR_LIMITER_QUEUE if the queue is full, ERR_LIMITER_COST for a cost above a quota, ERR_LIMITER_OPTION,
   * ERR_LIMITER_CLOCK
   */
  async acquire(options?: AcquireOptions): Promise<Lease> {
    const request = readAcquireOptions(options);
    if (request.cost > this.#smallestQuota) {
      throw costTooHigh(request.cost, this.#smallestQuota, 'the smallest quota');
    }
    return this.#queue.enqueue(request);
  }

  /**
   * Applies a response's rate limits and status. Call it for every response, good ones too: they end the
   * slower pace after a refusal. Pass the lease if there is one. Nonsensical numbers are ignored.
   * @throws ERR_LIMITER_OPTION for arguments of the wrong type, ERR_LIMITER_CLOCK; then nothing has changed
   */
  update(info: RateLimitInfo, status?: number, context?: UpdateContext): void {
    requireInfo(info, status);
    const { lease, ageSeconds, refused, violated, contentBytes } = readUpdateContext(context);
    const meaning = meaningOf(info, status, ageSeconds, refused);
    const now = this.#readClock();
    if (meaning === undefined) return;
    const last = this.#lastNumber;
    const ownLease = lease?.taken.owner === this.#quotas ? lease : undefined;
    const number = ownLease?.taken.number;
    this.#serverPolicies.takeBytes(contentBytes, now);
    const answered = this.#answeredRequest(ownLease, now);
    const isSpent = this.#serverPolicies.apply(meaning, answered, last, now);
    if (ownLease !== undefined) this.#markCounted(ownLease);
    const { isRefused } = meaning;
    const retryAfter = meaning.info.retryAfterSeconds;
    if (isWait(retryAfter)) {
      if (violated.length === 0) this.#recovery.block(retryAfter, last, now);
      for (const name of violated) this.#serverPolicies.block(name, retryAfter, last, now);
    } else if (isRefused && !isSpent) {
      this.#recovery.onRefusal(number, last, now);
    } else if (!isRefused) {
      this.#recovery.onGoodAnswer(number, now);
    }
    this.#notifyChange();
  }

  /**
   * Returns a copy of the limiter's state. Changes nothing.
   * @throws ERR_LIMITER_CLOCK
   */
  state(): PolicyLimiterState {
    return {
      blockedSeconds: secondsUntil(this.#recovery.blockedUntil, this.#readClock()),
      ramping: this.#recovery.isRamping,
      rateShare: this.#recovery.rateShare,
      waiting: this.#queue.size,
    };
  }

  /**
   * Calls `listener` after every refund, release, update and restore, because a delay may have changed then.
   * Returns a function that removes the listener. An error of the listener is thrown by the call that caused
   * the change.
   */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /**
   * Returns what is spent, blocked and left as plain JSON-safe data, for `restore` after a restart.
   * @throws ERR_LIMITER_CLOCK
   */
  snapshot(): PolicySnapshot {
    const now = this.#readClock();
    const { policies, wallClock } = this.#settings;
    return writeSnapshot(this.#settings, policies, this.#quotas.save(now), {
      takenAt: Math.max(0, readClock(wallClock)),
      blockedSeconds: secondsUntil(this.#recovery.blockedUntil, now),
      ...this.#serverPolicies.save(now),
    });
  }

  /**
   * Replaces the limiter's state by a snapshot. Call it before the first request. The time since the snapshot
   * counts, by the wall clock; if that clock went back, no time has passed. Older leases refund nothing.
   * @throws ERR_LIMITER_SNAPSHOT if the snapshot is invalid, or belongs to other policies, another algorithm
   * or another burst share; ERR_LIMITER_CLOCK; then nothing has changed
   */
  restore(snapshot: object): void {
    const settings = this.#settings;
    const saved = readSnapshot(snapshot, settings, settings.policies);
    const now = this.#readClock();
    const elapsed = Math.max(0, readClock(settings.wallClock) - saved.takenAt);
    const states = saved.policies.map(({ state }) => state);
    const quotas = restoreQuotas(settings, this.#windows(), states, now - elapsed);
    const { limits, told } = saved;
    if (quotas === undefined || !this.#serverPolicies.restore(limits, told, elapsed, now)) {
      throw invalidSnapshot('invalid policy state');
    }
    this.#quotas = quotas;
    this.#recovery = this.#createRecovery();
    if (saved.blockedSeconds > elapsed) {
      this.#recovery.block(saved.blockedSeconds - elapsed, this.#lastNumber, now);
    }
    this.#notifyChange();
  }

  // Each call reads the clock once. If the clock steps back, time stands still.
  #readClock(): number {
    const now = readClock(this.#settings.clock);
    if (now > this.#latestTime) this.#latestTime = now;
    return this.#latestTime;
  }

  #canTake(cost: number, now: number): boolean {
    if (cost > this.#smallestQuota || this.#queue.size > 0) return false;
    return this.#readyAt(cost, now) <= now;
  }

  #readyAt(cost: number, now: number): number {
    return Math.max(
      this.#quotas.readyAt(cost, now),
      this.#serverPolicies.readyAt(cost, now),
      this.#recovery.readyAt(),
    );
  }

  #delay(cost: number, now: number): number {
    return secondsUntil(this.#readyAt(cost, now), now);
  }

  #take(cost: number, now: number): void {
    this.#lastNumber += 1;
    this.#sentUnits += cost;
    this.#quotas.take(cost, now);
    this.#serverPolicies.take(cost, this.#lastNumber, now);
    this.#recovery.take(cost, this.#lastNumber, now);
  }

  #takeLease(cost: number, now: number): QuotaLease {
    this.#openLeases.expire(now);
    this.#take(cost, now);
    const lease = new QuotaLease(
      { cost, at: now, number: this.#lastNumber, owner: this.#quotas },
      this.#countedUnits,
      (settled, refund) => this.#settle(settled, refund),
    );
    this.#openLeases.add(lease);
    return lease;
  }

  #settle(lease: QuotaLease, refund: boolean): void {
    const now = this.#readClock();
    lease.isSettled = true;
    this.#openLeases.delete(lease);
    if (refund && lease.taken.owner === this.#quotas) this.#refund(lease, now);
    else this.#markCounted(lease);
    // Sums of fractions accumulate rounding errors; without open leases the difference is 0.
    if (this.#openLeases.size(now) === 0) this.#countedUnits = this.#sentUnits;
    this.#notifyChange();
  }

  #refund({ taken, isCounted }: QuotaLease, now: number): void {
    this.#quotas.refund(taken.cost, taken.at, now);
    if (isCounted) return;
    this.#serverPolicies.refund(taken, now);
    this.#recovery.refund(taken.number);
    this.#sentUnits -= taken.cost;
  }

  /** Assumes that the server has counted the request: it was answered, or its lease has expired. */
  #markCounted(lease: QuotaLease): void {
    if (!lease.isCounted) this.#countedUnits += lease.cost;
    lease.isCounted = true;
  }

  /**
   * Requests may overtake each other. So the server's report may not include any request that was under way at
   * some time while the answered one was. Without a lease, the answered request may be any that is under way.
   */
  #answeredRequest(lease: QuotaLease | undefined, now: number): AnsweredRequest {
    if (lease !== undefined) {
      const { number, cost } = lease.taken;
      const underWay = this.#sentUnits - this.#countedUnits - (lease.isCounted ? 0 : cost);
      return { number, underWay, uncounted: this.#sentUnits - lease.countedBefore - cost };
    }
    const number = this.#openLeases.first(now)?.taken.number ?? this.#lastNumber;
    const underWay = this.#sentUnits - this.#countedUnits;
    return { number, underWay, uncounted: underWay };
  }

  #notifyChange(): void {
    this.#queue.wake();
    for (const listener of this.#listeners) listener();
  }

  #windows() {
    const { policies, jitterSeconds } = this.#settings;
    return policies.map(({ quota, windowSeconds }) => {
      return { quota, windowSeconds: windowSeconds + jitterSeconds };
    });
  }

  #createRecovery(): Recovery {
    const { policies, maxWaitSeconds, random } = this.#settings;
    const rates = policies.map(({ quota, windowSeconds }) => quota / windowSeconds);
    return new Recovery(Math.min(...rates), maxWaitSeconds, random);
  }
}

function isWait(seconds: unknown): seconds is number {
  return typeof seconds === 'number' && seconds > 0;
}
