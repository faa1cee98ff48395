// PolicyLimiterGroup: a PolicyLimiter for each key, such as a host, a route or a token, created when it is needed and
// removed when nothing of it matters any more. All may share common limits.

import { invalidValue } from '../common/errors.js';
import { isArray, isInstance } from '../common/kinds.js';
import { nonNegative, readOptions } from '../common/options.js';
import type { RateLimitInfo } from '../headers/types.js';
import { type Lease, useLease } from './lease.js';
import {
  ACQUIRE_OPTIONS,
  type AcquireOptions,
  LIMITER_OPTIONS,
  type PolicyLimiterOptions,
  readLimiterOptions,
  requireFunction,
  type UpdateContext,
} from './options.js';
import { NO_POLICIES, type Policy } from './policies.js';
import { PolicyLimiter, type PolicyLimiterState } from './policy-limiter.js';

/**
 * The options of a `PolicyLimiterGroup`: those of the limiter of each key, and these. The default of `algorithm` is
 * `sliding`: a group sends as fast as its limits allow.
 */
export interface PolicyLimiterGroupOptions
  extends Omit<PolicyLimiterOptions, 'policies' | 'within'> {
  /**
   * The quotas of each key. Default: none, so that a key has only the limits that its responses report. Then the first
   * request of a key waits for its answer alone, and each good answer allows two more, as after a block.
   */
  policies?: readonly Policy[] | undefined;
  /**
   * Limits that the requests of all keys share: policies, with or without a bound of the requests under way, or a limiter,
   * which other groups may use too. A request takes the quota of its key and the common one at the same moment. Among
   * waiting keys of the same priority, the one without a request for longest is first. Of policies of at most one second,
   * `burstShare` can be sent in one burst and the rest evenly, so that no key waits for the end of a window that others
   * have used up. Default: none.
   */
  common?: readonly Policy[] | CommonLimits | PolicyLimiter | undefined;
  /** Seconds without a request after which a limiter is removed if it is as a new one; at least 0. Default: 60. */
  idleSeconds?: number | undefined;
}

/** Limits that the requests of all keys of a `PolicyLimiterGroup` share. */
export interface CommonLimits {
  /** The quotas, at least one. */
  policies: readonly Policy[];
  /** The maximum number of leases of all keys that are open at the same time, at least 1. Default: no limit. */
  maxConcurrent?: number | undefined;
}

/** The options of `PolicyLimiterGroup.acquire` and `run`. */
export interface GroupAcquireOptions extends AcquireOptions {
  /** The key of the limiter, such as a host, a route or a token. */
  key: string;
}

/** What `PolicyLimiterGroup.update` receives about a response, besides its status and its rate limits. */
export interface GroupUpdateContext extends UpdateContext {
  /** The lease of the answered request, which identifies the key. */
  lease: Lease;
}

/** The state of a `PolicyLimiterGroup`; a copy. */
export interface PolicyLimiterGroupState {
  /** The state of the common limits; undefined without any. */
  common: PolicyLimiterState | undefined;
  /** The state of each limiter by its key. */
  keys: Record<string, PolicyLimiterState>;
}

interface Entry {
  readonly limiter: PolicyLimiter;
  /** The time of the last request, in seconds of the group's clock. */
  usedAt: number;
}

const OPTIONS = [...LIMITER_OPTIONS.filter((name) => name !== 'within'), 'common', 'idleSeconds'];
/**
 * Common windows of at most this length are paced: otherwise the keys that come first use up a window at once, and the
 * others wait for its end, again and again.
 */
const PACED_SECONDS = 1;
/** With each request, this many limiters are examined whether they can be removed. */
const EXAMINED = 2;

/**
 * Limits requests by a key: each key has a `PolicyLimiter`, so that what is spent, blocked or refused for one key holds
 * back no other, and all keys may share common limits. A limiter exists as long as something of it matters.
 *
 * @example
 * import { PolicyLimiterGroup } from 'relay-limiter/client';
 *
 * const group = new PolicyLimiterGroup({
 *   policies: [{ quota: 5, windowSeconds: 1 }], // of each route
 *   common: [{ quota: 50, windowSeconds: 1 }], // of all routes together
 * });
 *
 * const texts = await Promise.all(
 *   ['users', 'messages'].map((route) =>
 *     group.run(async () => (await fetch(`data:,${route}`)).text(), { key: route }),
 *   ),
 * );
 * console.log(texts, group.state().keys);
 */
export class PolicyLimiterGroup {
  readonly #options: Omit<PolicyLimiterOptions, 'policies'>;
  readonly #idleSeconds: number;
  readonly #clock: () => number;
  readonly #common: PolicyLimiter | undefined;
  /** In the order of their last requests. */
  readonly #entries = new Map<string, Entry>();
  readonly #limiters = new WeakMap<Lease, PolicyLimiter>();
  #policies: readonly Policy[];
  #isClosed = false;

  /** @throws ERR_LIMITER_OPTION if an option is invalid, naming it; ERR_LIMITER_CLOCK */
  constructor(options?: PolicyLimiterGroupOptions) {
    const given = readOptions('PolicyLimiterGroup', options, OPTIONS);
    const { policies = NO_POLICIES, common, ...own } = given as PolicyLimiterGroupOptions;
    const { idleSeconds: _, algorithm = 'sliding', ...others } = own;
    const rest = { ...others, algorithm };
    const settings = readLimiterOptions({ ...rest, policies });
    this.#idleSeconds = nonNegative(given, 'idleSeconds', 60);
    this.#clock = settings.clock;
    this.#policies = settings.policies;
    this.#common =
      common === undefined || isInstance(common, PolicyLimiter)
        ? common
        : new PolicyLimiter({ ...rest, ...readCommon(common) }, PACED_SECONDS);
    this.#options = { ...rest, within: this.#common };
  }

  /** The keys that have a limiter. */
  get keys(): string[] {
    return [...this.#entries.keys()];
  }

  /**
   * Returns the limiter of a key. Use it at once: it is removed some time after it has become idle, and the key gets
   * another one with the next request.
   * @throws ERR_LIMITER_KEY unless the key is a string, ERR_LIMITER_CLOCK
   */
  limiter(key: string): PolicyLimiter {
    if (typeof key !== 'string') throw invalidValue('ERR_LIMITER_KEY', 'a key', key, 'a string');
    const now = this.#clock();
    const limiter = this.#entries.get(key)?.limiter ?? this.#createLimiter();
    this.#entries.delete(key);
    this.#entries.set(key, { limiter, usedAt: now });
    this.#removeIdle(now, EXAMINED);
    return limiter;
  }

  /**
   * Waits for quota of the key and of the common limits, as `PolicyLimiter.acquire` does.
   * @throws the errors of `PolicyLimiter.acquire`, ERR_LIMITER_KEY
   */
  async acquire(options: GroupAcquireOptions): Promise<Lease> {
    const { key, ...rest } = readOptions('acquire', options, ['key', ...ACQUIRE_OPTIONS]);
    const limiter = this.limiter(key as string);
    const lease = await limiter.acquire(rest);
    this.#limiters.set(lease, limiter);
    return lease;
  }

  /**
   * Calls `fn` when the limits of the key and the common ones allow it, as `PolicyLimiter.run` does.
   * @throws the errors of `acquire`, ERR_LIMITER_OPTION if `fn` is not a function, and what `fn` throws
   */
  async run<T>(fn: (lease: Lease) => T | PromiseLike<T>, options: GroupAcquireOptions): Promise<T> {
    requireFunction(fn, 'fn');
    return useLease(await this.acquire(options), fn);
  }

  /**
   * Applies a response's rate limits and status to the limits of the lease's key; with `within: true` to the common ones.
   * @throws ERR_LIMITER_OPTION for arguments of the wrong type, ERR_LIMITER_CLOCK; then nothing has changed
   */
  update(info: RateLimitInfo, status: number | undefined, context: GroupUpdateContext): void;
  /**
   * Replaces the policies of all keys, as `PolicyLimiter.update` does.
   * @throws ERR_LIMITER_OPTION, ERR_LIMITER_CLOCK
   */
  update(policies: readonly Policy[]): void;
  update(
    given: RateLimitInfo | readonly Policy[],
    status?: number,
    context?: GroupUpdateContext,
  ): void {
    if (isArray(given)) {
      this.#policies = readLimiterOptions({ policies: given }).policies;
      for (const { limiter } of this.#entries.values()) limiter.update(this.#policies);
      return;
    }
    const lease = context?.lease;
    const limiter = lease && this.#limiters.get(lease);
    if (limiter === undefined) {
      throw invalidValue('ERR_LIMITER_OPTION', 'lease', lease, 'a lease of this group');
    }
    limiter.update(given as RateLimitInfo, status, context);
  }

  /**
   * Returns a copy of the state of all limiters. Changes nothing.
   * @throws ERR_LIMITER_CLOCK
   */
  state(): PolicyLimiterGroupState {
    const keys = [...this.#entries].map(([key, { limiter }]) => [key, limiter.state()]);
    return { common: this.#common?.state(), keys: Object.fromEntries(keys) };
  }

  /** Removes the limiters that have been idle for `idleSeconds`. Requests do that too, a few at a time. O(keys). */
  cleanup(): void {
    this.#removeIdle(this.#clock(), Infinity);
  }

  /** Resolves when no call waits and all leases have ended; at once if that is so. */
  async idle(): Promise<void> {
    // While one of them is waited for, others may begin.
    for (let busy = this.#busy; busy.length > 0; busy = this.#busy) {
      await Promise.all(busy.map((limiter) => limiter.idle()));
    }
  }

  /** Accepts no new calls, and resolves when the waiting calls have been served and all leases have ended. */
  async drain(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#entries.values()].map(({ limiter }) => limiter.drain()));
  }

  /**
   * Accepts no new calls, and rejects the waiting ones with `ERR_LIMITER_CLOSED`. A limiter that was given as `common`
   * stays open.
   */
  close(): void {
    this.#isClosed = true;
    for (const { limiter } of this.#entries.values()) limiter.close();
  }

  /** The limiters of which a call waits or a lease is open. */
  get #busy(): PolicyLimiter[] {
    const limiters = [...this.#entries.values()].map(({ limiter }) => limiter);
    return limiters.filter((limiter) => !limiter.isIdle);
  }

  #createLimiter(): PolicyLimiter {
    const limiter = new PolicyLimiter({ ...this.#options, policies: this.#policies });
    if (this.#isClosed) limiter.close();
    return limiter;
  }

  /** Examines those that were not used for the longest time. */
  #removeIdle(now: number, count: number): void {
    let left = count;
    for (const [key, entry] of this.#entries) {
      if (left === 0 || now - entry.usedAt < this.#idleSeconds) return;
      left -= 1;
      if (entry.limiter.isFresh) {
        this.#entries.delete(key);
      } else {
        // Examined again when it is the first another time.
        this.#entries.delete(key);
        this.#entries.set(key, { ...entry, usedAt: now });
      }
    }
  }
}

/** @throws ERR_LIMITER_OPTION */
function readCommon(common: unknown): CommonLimits {
  if (isArray(common)) return { policies: common as Policy[], maxConcurrent: undefined };
  const { policies, maxConcurrent } = readOptions('common', common, ['policies', 'maxConcurrent']);
  return { policies, maxConcurrent } as CommonLimits;
}
