// SharedPolicyLimiter: a PolicyLimiter whose quotas are those of all processes together.

import type { UpdateContext } from '../../client/options.js';
import { type Policy, readPolicies } from '../../client/policies.js';
import { PolicyLimiter } from '../../client/policy-limiter.js';
import { callSafely } from '../../common/callbacks.js';
import { isArray } from '../../common/kinds.js';
import type { RateLimitInfo } from '../../headers/types.js';
import type { StateChange, StoreStats } from '../store/shard-health.js';
import { readSharedPolicyOptions, type SharedPolicyLimiterOptions } from './options.js';
import { SharedQuota } from './shared-quota.js';

/**
 * A `PolicyLimiter` whose quotas hold for all processes together that have the same `name` in one Redis or Valkey. It is used
 * as a `PolicyLimiter`, also by `limitFetch` and `limitInterceptor`. A process leases quota from the store, so that
 * many requests need no call of the store. In any interval of a window's length all processes together send at most its quota,
 * whatever they lose or whenever they end; what they send while the store is down is the exception, see `onStoreFailure`.
 *
 * A refusal, `Retry-After`, and a limit of which a response says that nothing remains stop all processes: each hears of it
 * with its next call, at most `leaseSeconds` later, and uses what it holds until then. Other limits that responses report
 * are obeyed by the process that received them.
 *
 * @example
 * import { createClient } from 'redis';
 * import { limitFetch } from 'relay-limiter/client';
 * import { SharedPolicyLimiter } from 'relay-limiter/redis';
 *
 * const client = createClient({ url: process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379' });
 * await client.connect();
 * const limiter = new SharedPolicyLimiter({
 *   client,
 *   name: 'api.example',
 *   policies: [{ quota: 240, windowSeconds: 60 }],
 * });
 * const limitedFetch = limitFetch(fetch, limiter);
 * const response = await limitedFetch('data:,done'); // any URL of the API
 * console.log(await response.text());
 * await limiter.close();
 * await client.close();
 */
export class SharedPolicyLimiter extends PolicyLimiter {
  readonly #quota: SharedQuota;
  readonly #stateListeners: Set<(change: StateChange) => void>;

  /**
   * Creates a limiter. Its first call of the store is made at once.
   * @throws ERR_LIMITER_OPTION if an option is invalid, naming it; ERR_LIMITER_CLOCK
   */
  constructor(options: SharedPolicyLimiterOptions) {
    const { quota: config, own } = readSharedPolicyOptions(options);
    const stateListeners = new Set<(change: StateChange) => void>();
    const quota = new SharedQuota(config, {
      onStoreState: (change) => {
        for (const listener of stateListeners) callSafely(() => listener(change));
      },
      onBlocked: (seconds) => this.#applyBlock(seconds),
    });
    super({ ...own, within: quota });
    this.#quota = quota;
    this.#stateListeners = stateListeners;
  }

  /** Applies a response to all processes; see `PolicyLimiter.update`. */
  override update(info: RateLimitInfo, status?: number, context?: UpdateContext): void;
  /** Replaces the policies of this process; see `PolicyLimiter.update`. Give the other processes the same ones. */
  override update(policies: readonly Policy[]): void;
  override update(
    given: RateLimitInfo | readonly Policy[],
    status?: number,
    context?: UpdateContext,
  ): void {
    if (isArray(given)) {
      const policies = readPolicies(given);
      super.update(policies);
      this.#quota.replacePolicies(policies);
      return;
    }
    super.update(given as RateLimitInfo, status, context);
    this.#quota.block(this.#secondsToTell(given as RateLimitInfo));
  }

  /** Returns the counts of the store's calls by this process, and the store's state; a copy. */
  storeStats(): StoreStats {
    const { state, nodes, counters } = this.#quota.store;
    return { state, nodes, ...counters };
  }

  /**
   * Calls `listener` when the store stops answering or answers again. Returns a function that removes it. What it throws
   * becomes an uncaught exception.
   */
  onStoreState(listener: (change: StateChange) => void): () => void {
    this.#stateListeners.add(listener);
    return () => {
      this.#stateListeners.delete(listener);
    };
  }

  /**
   * Resolves once the store has answered. Optional: call it if the process should not start with an unusable store.
   * @throws (rejects with) `ERR_LIMITER_STORE` and the reason
   */
  storeReady(): Promise<void> {
    return this.#quota.store.ready();
  }

  /** As `PolicyLimiter.drain`; then what is on lease goes back to the store, and this process is unregistered. */
  override async drain(): Promise<void> {
    await super.drain();
    await this.#quota.close();
  }

  /**
   * As `PolicyLimiter.close`. Resolves when what is on lease has gone back to the store and this process is unregistered, in
   * steps of at most `deadlineSeconds`. The client stays open.
   */
  override async close(): Promise<void> {
    super.close();
    await this.#quota.close();
  }

  /** Returns the seconds for which a response stops all requests. */
  #secondsToTell(info: RateLimitInfo): number {
    const isSpent = info.limits.some(({ remaining }) => remaining !== null && remaining <= 0);
    const { blockedSeconds } = this.state();
    return isSpent ? Math.max(blockedSeconds, this.backlogSeconds(1)) : blockedSeconds;
  }

  #applyBlock(seconds: number): void {
    if (this.state().blockedSeconds >= seconds) return;
    const info = { policies: [], limits: [], retryAfterSeconds: seconds, ignored: [] };
    super.update(info, undefined, { refused: true });
  }
}
