// SharedRateLimiter: one limit that many processes share through Redis or Valkey, with the verdicts of RateLimiter.

import { EventEmitter } from 'node:events';
import { callSafely } from '../../common/callbacks.js';
import { readOptionalClock } from '../../common/clock.js';
import { limiterError } from '../../common/errors.js';
import { requireCost, requireKey } from '../../common/options.js';
import { type CheckResult, RateLimitAction } from '../../common/types.js';
import { selectEngine } from '../../engine/select.js';
import { RateLimiter } from '../../limiters/rate-limiter.js';
import { delaySeconds } from '../../tables/arithmetic.js';
import { idOf } from '../store/keys.js';
import { MOST_REFUSED } from './fleet-report.js';
import { LeaseManager } from './lease-manager.js';
import { LeaseRecords } from './lease-records.js';
import { type FleetTotals, LimitStore } from './limit-store.js';
import {
  type FailurePolicy,
  readLimitChange,
  readSharedOptions,
  type SharedLimitChange,
  type SharedLimitConfig,
  type SharedMode,
  type SharedRateLimiterOptions,
} from './options.js';
import { mergeRefused, RefusedPeers } from './refused-peers.js';
import { type CheckOwner, type Receiver, StrictCheck } from './strict-check.js';
import type { FleetStats, SharedRateLimiterEvents, SharedStats } from './types.js';

const NO_CALLS = { calls: 0, beats: 0, failures: 0, downs: 0, inFlight: 0 } as const;

/**
 * A token bucket per peer, shared by any number of processes through Redis or Valkey.
 *
 * In modes `leased` and `strict` all processes together admit at most `burstLimit` + `rateLimit` × T of a peer in any
 * interval T, if all of them have the same options. What a process admits while the store is down is the exception: see
 * `onStoreFailure`. No verdict takes longer than `deadlineSeconds`, and no check rejects because the store is down.
 * docs/design/fleet.md explains why the bound holds and what each mode costs.
 *
 * @example
 * import { createClient } from 'redis';
 * import { SharedRateLimiter } from 'relay-limiter/redis';
 *
 * const client = createClient({ url: process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379' });
 * await client.connect();
 * const limiter = new SharedRateLimiter({ client, rateLimit: 50, burstLimit: 100 });
 * const [action, delaySeconds] = await limiter.checkAsync('203.0.113.7');
 * console.log(action, delaySeconds); // allow 0
 * await limiter.close();
 * await client.close();
 */
export class SharedRateLimiter extends EventEmitter<SharedRateLimiterEvents> {
  readonly mode: SharedMode;
  readonly onStoreFailure: FailurePolicy;
  readonly #config: SharedLimitConfig;
  readonly #local: RateLimiter | undefined;
  readonly #store: LimitStore | undefined;
  readonly #owner: CheckOwner | undefined;
  readonly #leases: LeaseManager | undefined;
  readonly #verdicts = { allow: 0, delay: 0, disconnect: 0 };
  readonly #refused: RefusedPeers;

  /**
   * Creates a limiter. Its first call of the store is made at once.
   * @throws `ERR_LIMITER_OPTION` for an invalid option or client; `ERR_LIMITER_ENGINE` if the engine is unavailable,
   * except in mode `strict`, which needs none.
   */
  constructor(options: SharedRateLimiterOptions) {
    super();
    const config = readSharedOptions(options);
    const { mode, rateLimit, burstLimit, disconnectThreshold, onStoreFailure } = config;
    this.#config = config;
    this.mode = mode;
    this.onStoreFailure = onStoreFailure;
    if (mode === 'local') {
      const { maxPeers, clock, engine } = config;
      const limit = { rateLimit, burstLimit, disconnectThreshold };
      this.#local = new RateLimiter({ ...limit, maxPeers, clock, engine });
      this.#refused = new RefusedPeers();
      return;
    }
    // Before the LimitStore, since this may throw, and a LimitStore calls the store as soon as it exists.
    const records =
      mode === 'leased' ? new LeaseRecords(selectEngine(config.engine).leaseTable()) : undefined;
    this.#store = new LimitStore(config, {
      onState: (change) => callSafely(() => this.emit('state', change)),
      onFailure: (key, error) => callSafely(() => this.emit('failure', { key, error })),
      onLimit: (before) => {
        this.#leases?.limitChanged(before);
        callSafely(() => this.emit('limit', this.#limit()));
      },
      ownTotals: () => this.#totals(),
    });
    this.#refused = this.#store.fleet.refused;
    this.#owner = {
      store: this.#store,
      limit: config,
      count: (id, result) => void this.#count(id, result),
    };
    if (records !== undefined) this.#leases = new LeaseManager(config, this.#owner, records);
  }

  /** Tokens per second. */
  get rateLimit(): number {
    return this.#config.rateLimit;
  }

  /** The capacity of a bucket, in tokens. */
  get burstLimit(): number {
    return this.#config.burstLimit;
  }

  /** The number of violations from which a refusal is `disconnect`; null: none is. */
  get disconnectThreshold(): number | null {
    return this.#config.disconnectThreshold;
  }

  /**
   * Changes the limit for all processes, which follow within a second; buckets and violations stay. Processes that start
   * later with the same options as before, or with the new ones, adopt it too. What is left out stays as it is in the store.
   * Resolves once the store has the change. Calls at the same time take effect one after the other.
   * @throws (rejects with) `ERR_LIMITER_OPTION` for an invalid change, and in mode `local`; `ERR_LIMITER_STORE` if the store
   * does not answer within `deadlineSeconds`: then it may still take effect.
   *
   * @example
   * import { Redis } from 'ioredis';
   * import { SharedRateLimiter } from 'relay-limiter/redis';
   *
   * const client = new Redis(process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379');
   * const limit = { rateLimit: 50, burstLimit: 100 };
   * const limiter = new SharedRateLimiter({ client, ...limit, deadlineSeconds: 5 });
   * await limiter.ready();
   * await limiter.update({ rateLimit: 20 });
   * console.log(limiter.rateLimit, limiter.burstLimit); // 20 100
   * await limiter.close();
   * client.disconnect();
   */
  async update(change: SharedLimitChange): Promise<void> {
    const limit = readLimitChange(change, this.#config);
    if (this.#store === undefined) {
      const message = "update() must be called in mode 'leased' or 'strict', got 'local'";
      throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
    }
    if (Object.keys(limit).length > 0) await this.#store.changeLimit(limit);
  }

  #limit(): { rateLimit: number; burstLimit: number; disconnectThreshold: number | null } {
    const { rateLimit, burstLimit, disconnectThreshold } = this.#config;
    return { rateLimit, burstLimit, disconnectThreshold };
  }

  /**
   * Returns a verdict at once, for modes `leased` and `local`. If neither a lease nor a remembered refusal covers the
   * check, it requests a lease and returns DELAY for `deadlineSeconds`, the longest that the reply may take; this
   * counts no violation. `checkAsync` waits for the reply instead.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_COST`, `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`;
   * `ERR_LIMITER_OPTION` in mode `strict`.
   */
  check(peerKey: string, cost = 1): CheckResult {
    requireKey(peerKey);
    requireCost(cost);
    if (this.#local !== undefined) return this.#count(peerKey, this.#local.check(peerKey, cost));
    if (this.#leases === undefined) {
      const message = "check() must be called in mode 'leased' or 'local', got 'strict'";
      const advice = 'call checkAsync() instead';
      throw limiterError(TypeError, 'ERR_LIMITER_OPTION', `${message}; ${advice}`);
    }
    const id = idOf(peerKey);
    const now = readOptionalClock(this.#config.clock);
    const known = this.#leases.checkLocally(id, cost, now);
    if (known !== undefined) return this.#count(id, known);
    return this.#countVerdict(this.#leases.requestAhead(id, cost, now));
  }

  /**
   * Returns the verdict, as `RateLimiter.check` does: at once if a lease or a remembered refusal covers the check,
   * otherwise after a call of the store, within `deadlineSeconds`. In mode `leased` a refusal holds until the bucket
   * contains the cost, and at least until ten tokens have come or a quarter of a second has passed, whichever is
   * sooner.
   * @throws (rejects with) `ERR_LIMITER_KEY`, `ERR_LIMITER_COST`, `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   */
  checkAsync(peerKey: string, cost = 1): Promise<CheckResult> {
    try {
      requireKey(peerKey);
      requireCost(cost);
      if (this.#local !== undefined) return Promise.resolve(this.check(peerKey, cost));
      return new Promise((resolve) => this.#ask(idOf(peerKey), cost, resolve));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Checks as `checkAsync` does, and returns the tokens that the peer has left too, for the headers of a response: in modes
   * `strict` and `local` those of its bucket, in mode `leased` those that are on lease to this process, which may be fewer
   * than it would get; null if the failure policy has decided. DISCONNECT comes with the seconds until the bucket contains
   * the cost.
   * @throws (rejects with) the errors of `checkAsync`.
   */
  async checkWithTokens(
    peerKey: string,
    cost = 1,
  ): Promise<readonly [action: RateLimitAction, delaySeconds: number, tokens: number | null]> {
    requireKey(peerKey);
    requireCost(cost);
    if (this.#local !== undefined) return this.#checkInProcess(this.#local, peerKey, cost);
    const id = idOf(peerKey);
    return new Promise((resolve) => {
      this.#ask(id, cost, (result, tokens = this.#leases?.tokensOf(id) ?? null) => {
        resolve(this.#withTokens(result, tokens, cost));
      });
    });
  }

  /**
   * Returns the result of `checkWithTokens` if it is known without a reply of the store: always in mode `local`, in mode
   * `leased` if a lease or a remembered refusal covers the check or the store is down, never in mode `strict`. Otherwise
   * undefined, and then the check has had no effect. Guards and HTTP limits call it first, so that what is known waits for no
   * promise.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_COST`, `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`
   */
  checkLocally(
    peerKey: string,
    cost = 1,
  ): readonly [action: RateLimitAction, delaySeconds: number, tokens: number | null] | undefined {
    requireKey(peerKey);
    requireCost(cost);
    if (this.#local !== undefined) return this.#checkInProcess(this.#local, peerKey, cost);
    if (this.#leases === undefined) return undefined;
    const id = idOf(peerKey);
    const now = readOptionalClock(this.#config.clock);
    const known = this.#leases.checkWithoutReply(id, cost, now);
    if (known === undefined) return undefined;
    return this.#withTokens(this.#count(id, known), this.#leases.tokensOf(id), cost);
  }

  #checkInProcess(
    local: RateLimiter,
    key: string,
    cost: number,
  ): readonly [action: RateLimitAction, delaySeconds: number, tokens: number | null] {
    const result = this.#count(key, local.check(key, cost));
    return this.#withTokens(result, local.getTokens(key), cost);
  }

  #withTokens(
    [action, delay]: CheckResult,
    tokens: number | null,
    cost: number,
  ): readonly [action: RateLimitAction, delaySeconds: number, tokens: number | null] {
    if (action !== RateLimitAction.DISCONNECT || tokens === null) return [action, delay, tokens];
    return [action, delaySeconds(tokens, cost, this.rateLimit, this.burstLimit), tokens];
  }

  /**
   * Returns the unspent tokens of a peer's lease to the store; call it when the peer has left this process. The peer's
   * bucket and violations stay in the store, so a peer cannot reset them by coming back. In mode `local` the peer is
   * forgotten. @throws `ERR_LIMITER_KEY`
   */
  removePeer(peerKey: string): void {
    requireKey(peerKey);
    this.#local?.removePeer(peerKey);
    this.#leases?.release(idOf(peerKey));
  }

  /**
   * Returns a peer's violations, counted by all processes, after a call of the store. The store forgets them an hour
   * after the peer's last check.
   * @throws (rejects with) `ERR_LIMITER_KEY`, and `ERR_LIMITER_STORE` if the store does not answer.
   */
  async getViolationCount(peerKey: string): Promise<number> {
    requireKey(peerKey);
    if (this.#local !== undefined) return this.#local.getViolationCount(peerKey);
    const id = idOf(peerKey);
    try {
      const reply = await this.#store?.run('read', id, []);
      const [, violations] = reply as [tokens: string, violations: number];
      return Number(violations) + (this.#leases?.unreportedViolations(id) ?? 0);
    } catch (cause) {
      const message = `cannot read the number of violations: ${(cause as Error).message}`;
      throw limiterError(Error, 'ERR_LIMITER_STORE', message, cause);
    }
  }

  /**
   * Resolves once the store has answered. Optional: call it if the process should not start with an unusable store.
   * @throws (rejects with) `ERR_LIMITER_STORE` and the reason: no connection, a refused password, refused writes, or
   * `close` was called.
   */
  async ready(): Promise<void> {
    await this.#store?.ready();
  }

  /** Returns the counts of this process. O(peers kept), so not for every message. */
  getStats(): SharedStats {
    const store = this.#store;
    const totals = store?.fleet.totals;
    const tracked = this.#leases?.trackedPeers ?? this.#local?.getStats().trackedPeers ?? 0;
    return {
      trackedPeers: tracked,
      verdicts: { ...this.#verdicts },
      fallbackVerdicts: store?.fallbackVerdicts ?? 0,
      overloadVerdicts: store?.overloadVerdicts ?? 0,
      leasedTokens: this.#leases?.leasedTokens() ?? 0,
      evictions: this.#leases?.evictions ?? 0,
      fleetVerdicts: totals === undefined ? null : verdictsOf(totals),
      store:
        store === undefined
          ? { state: 'none', nodes: 1, ...NO_CALLS }
          : { state: store.state, nodes: store.nodes, ...store.counters },
    };
  }

  /**
   * Returns what all processes with this `prefix` have done: their verdicts, and the peers that they refused most. One call
   * of the store, O(processes). Other processes report every five seconds, so their part may be so old. In mode `local` of
   * this process only.
   * @throws (rejects with) `ERR_LIMITER_STORE` if the store does not answer within `deadlineSeconds`, or after `close`.
   *
   * @example
   * import { Redis } from 'ioredis';
   * import { SharedRateLimiter } from 'relay-limiter/redis';
   *
   * const client = new Redis(process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379');
   * const limit = { prefix: 'login', rateLimit: 0.1, burstLimit: 1 };
   * const limiter = new SharedRateLimiter({ client, ...limit, deadlineSeconds: 5 });
   * await limiter.ready();
   * for (let n = 0; n < 3; n += 1) await limiter.checkAsync('203.0.113.7');
   * const { nodes, offenders } = await limiter.getFleetStats();
   * console.log(nodes, offenders); // 1 [ { key: '203.0.113.7', refusals: 2 } ]
   * await limiter.close();
   * client.disconnect();
   */
  async getFleetStats(): Promise<FleetStats> {
    const store = this.#store;
    const all = await store?.fleet.readAll();
    const totals = all?.totals ?? this.#totals();
    const refused = all?.refused ?? [this.#refused.top(MOST_REFUSED)];
    const offenders = mergeRefused(refused, MOST_REFUSED);
    return {
      nodes: store?.nodes ?? 1,
      verdicts: verdictsOf(totals),
      fallbackVerdicts: totals.fallback,
      overloadVerdicts: totals.overload,
      offenders: offenders.map(([key, refusals]) => ({ key, refusals })),
    };
  }

  /**
   * Returns all leases to the store, those too that are being requested, and unregisters this process. Resolves when
   * that is done, in steps of at most `deadlineSeconds`. O(leases). The client stays open. Make no checks
   * afterwards. A second call does no harm.
   */
  async close(): Promise<void> {
    await this.#leases?.close();
    await this.#store?.close();
  }

  /** Checks a peer by its id, in modes `leased` and `strict`. */
  #ask(id: string, cost: number, receive: Receiver): void {
    const leases = this.#leases;
    if (leases === undefined) {
      const owner = this.#owner as CheckOwner;
      owner.store.call(id, new StrictCheck(owner, id, cost, receive));
      return;
    }
    const now = readOptionalClock(this.#config.clock);
    const known = leases.checkLocally(id, cost, now);
    if (known === undefined) leases.checkRemotely(id, cost, receive, now);
    else receive(this.#count(id, known));
  }

  /** Counts the verdict of a peer; `id`: its id, or its key in mode `local`. */
  #count(id: string, result: CheckResult): CheckResult {
    if (result[0] !== RateLimitAction.ALLOW) this.#refused.add(idOf(id));
    return this.#countVerdict(result);
  }

  #countVerdict(result: CheckResult): CheckResult {
    this.#verdicts[result[0]] += 1;
    return result;
  }

  #totals(): FleetTotals {
    const { fallbackVerdicts = 0, overloadVerdicts = 0 } = this.#store ?? {};
    return { ...this.#verdicts, fallback: fallbackVerdicts, overload: overloadVerdicts };
  }
}

function verdictsOf({ allow, delay, disconnect }: FleetTotals) {
  return { allow, delay, disconnect };
}
