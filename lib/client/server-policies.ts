// All policies and limits that a server reports, in bounded memory.

import type { QuotaPolicy, ServiceLimit } from '../headers/types.js';
import { type Cost, REQUESTS } from './cost.js';
import type { OpenLeases, QuotaLease, TakenQuota } from './lease.js';
import type { Policy } from './policies.js';
import type { ResponseMeaning } from './response.js';
import { ServerPolicy, type ServerPolicyOptions } from './server-policy.js';
import type { PolicyKey } from './server-report.js';
import type { SavedLimit, SavedPolicy } from './snapshot.js';

/** The maximum number of policies that are kept: those reported last. */
const MAX_POLICIES = 16;
/** The assumed window of a limit whose window is unknown, in seconds. */
const DEFAULT_WINDOW_SECONDS = 60;

/** The request that a response answers. */
export interface AnsweredRequest {
  /** Its number; if the request is unknown, the lowest number that it can have. */
  readonly number: number;
  /**
   * Units that the server may not have counted in its report, because their requests were under way at some
   * time while this one was.
   */
  readonly uncounted: Cost;
  /** The units among `uncounted` that are still under way. */
  readonly underWay: Cost;
  /** Its own units, if they were under way until now; 0 if the request is unknown. */
  readonly own: Cost;
}

export class ServerPolicies {
  readonly #options: ServerPolicyOptions;
  #configured: readonly Policy[];
  readonly #openLeases: OpenLeases<QuotaLease>;
  /** At most `MAX_POLICIES`, each with a key of its own. */
  #policies: ServerPolicy[] = [];
  #nextOrder = 0;

  constructor(
    options: ServerPolicyOptions,
    configured: readonly Policy[],
    openLeases: OpenLeases<QuotaLease>,
  ) {
    this.#options = options;
    this.#configured = configured;
    this.#openLeases = openLeases;
  }

  /** Replaces the configured policies, which are an upper bound of those that the server reports. */
  configure(policies: readonly Policy[]): void {
    this.#configured = policies;
  }

  /** Whether no policy that the server has reported is in force. */
  isEmpty(now: number): boolean {
    return this.#policies.every((policy) => policy.isExpired(now));
  }

  /** Whether units that are taken now delay the request of `cost` only as far as these units are missing. */
  allowSharing(cost: Cost, now: number): boolean {
    return this.#policies.every((policy) => policy.allowsSharing(cost, now));
  }

  readyAt(cost: Cost, now: number): number {
    let ready = -Infinity;
    for (const policy of this.#policies) {
      ready = Math.max(ready, policy.readyAt(cost, now));
    }
    return ready;
  }

  take(cost: Cost, number: number, now: number): void {
    for (const policy of this.#policies) policy.take(cost, number, now);
  }

  takeBytes(bytes: number, now: number): void {
    for (const policy of this.#policies) policy.takeBytes(bytes, now);
  }

  refund(taken: TakenQuota, now: number): void {
    for (const policy of this.#policies) policy.refund(taken, now);
  }

  /**
   * Applies what a response reports. Returns whether a limit has nothing left until some time. `lastNumber` is the
   * number of the last request.
   */
  apply(
    { info: { policies, limits }, isRefused }: ResponseMeaning,
    answered: AnsweredRequest,
    lastNumber: number,
    now: number,
  ): boolean {
    const reported: ServerPolicy[] = [];
    for (const policy of policies.slice(0, MAX_POLICIES)) {
      const applied = this.#applyPolicy(policy, lastNumber, now);
      if (applied !== undefined) reported.push(applied);
    }
    let isSpent = false;
    for (const limit of limits.slice(0, MAX_POLICIES)) {
      if (!isAmount(limit.remaining)) continue;
      const applied = this.#applyLimit(limit, limit.remaining, answered, lastNumber, now);
      reported.push(applied);
      isSpent ||= limit.remaining === 0 && applied.isSpent(now);
    }
    if (!isRefused) this.#dropRefuted(answered.number, reported);
    return isSpent;
  }

  /** Drops the policies whose probe was answered well, and which the answer does not repeat. */
  #dropRefuted(number: number, reported: readonly ServerPolicy[]): void {
    if (!this.#policies.some((policy) => policy.isProbe(number))) return;
    this.#policies = this.#policies.filter(
      (policy) => !policy.isProbe(number) || reported.includes(policy),
    );
  }

  /** Blocks only the policies of that name. `lastNumber` is the number of the last request. */
  block(name: string, seconds: number, lastNumber: number, now: number): void {
    const named = this.#policies.filter((policy) => policy.key.name === name);
    if (named.length === 0) {
      named.push(this.#findOrAdd({ name, quota: null, partitionKey: null }, lastNumber, now));
    }
    for (const policy of named) policy.block(seconds, now);
  }

  /** Returns what a snapshot keeps. The snapshot's name for the policies of the server is `told`. */
  save(now: number): { limits: SavedLimit[]; told: SavedPolicy[] } {
    return {
      limits: this.#policies.flatMap((policy) => {
        const remaining = policy.saveRemaining(now);
        return remaining ? [{ ...policy.key, ...remaining }] : [];
      }),
      told: this.#policies.flatMap((policy) => {
        const window = policy.saveWindow(now);
        return window ? [{ ...policy.key, ...window }] : [];
      }),
    };
  }

  /**
   * Restores what `save` returned `elapsed` seconds ago. Returns false, and changes nothing, if the state of a
   * window is invalid.
   */
  restore(
    limits: readonly SavedLimit[],
    told: readonly SavedPolicy[],
    elapsed: number,
    now: number,
  ): boolean {
    const previous = this.#policies;
    this.#policies = [];
    for (const saved of told.slice(0, MAX_POLICIES)) {
      if (saved.staysSeconds <= elapsed) continue;
      if (this.#findOrAdd(saved, -Infinity, now).restoreWindow(saved, elapsed, now)) continue;
      this.#policies = previous;
      return false;
    }
    for (const saved of limits.slice(0, MAX_POLICIES)) {
      if (Math.max(saved.resetSeconds, saved.blockedSeconds) <= elapsed) continue;
      this.#findOrAdd(saved, -Infinity, now).restoreRemaining(saved, elapsed, now);
    }
    return true;
  }

  #applyPolicy(reported: QuotaPolicy, lastNumber: number, now: number): ServerPolicy | undefined {
    const { quota, windowSeconds, unit } = reported;
    if (!isAmount(quota) || quota === 0 || !isAmount(windowSeconds) || windowSeconds === 0) {
      return undefined;
    }
    const isCovered = this.#configured.some(
      (policy) => policy.windowSeconds === windowSeconds && policy.quota <= quota,
    );
    const policy = this.#findOrAdd(reported, lastNumber, now);
    policy.updatePolicy({ quota, windowSeconds }, unit ?? REQUESTS, isCovered, lastNumber, now);
    return policy;
  }

  #applyLimit(
    limit: ServiceLimit,
    remaining: number,
    answered: AnsweredRequest,
    lastNumber: number,
    now: number,
  ): ServerPolicy {
    const { name, limit: quota, partitionKey, unit } = limit;
    const policy = this.#findOrAdd({ name, quota, partitionKey }, lastNumber, now);
    if (typeof unit === 'string') policy.setUnit(unit);
    const isAssumed = !isAmount(limit.resetSeconds);
    const resetSeconds = isAmount(limit.resetSeconds)
      ? limit.resetSeconds
      : (policy.windowSeconds ?? this.#configuredWindow(limit));
    const isExact = !isAssumed && (limit.exact ?? !Number.isInteger(resetSeconds));
    const whole = isAmount(quota) ? quota : null;
    const { number, uncounted, underWay, own } = answered;
    policy.updateRemaining(
      {
        remaining,
        resetSeconds,
        isExact,
        isAssumed,
        quota: whole,
        number,
        uncounted,
        underWay,
        own,
      },
      now,
    );
    return policy;
  }

  /** Returns the window of the configured policy with the limit's name, or without a name, its quota. */
  #configuredWindow({ name, limit }: ServiceLimit): number {
    const found = this.#configured.find((policy) =>
      name === null ? policy.quota === limit : policy.name === name,
    );
    return found?.windowSeconds ?? DEFAULT_WINDOW_SECONDS;
  }

  #findOrAdd(
    { name = null, quota: given, partitionKey = null }: PolicyKey,
    lastNumber: number,
    now: number,
  ): ServerPolicy {
    const quota = name === null && isAmount(given) ? given : null;
    const found = this.#policies.find(
      ({ key }) => key.name === name && key.quota === quota && key.partitionKey === partitionKey,
    );
    const policy = found ?? this.#add({ name, quota, partitionKey }, lastNumber, now);
    policy.order = this.#nextOrder;
    this.#nextOrder += 1;
    return policy;
  }

  #add(key: PolicyKey, lastNumber: number, now: number): ServerPolicy {
    const policy = new ServerPolicy(key, this.#options, this.#openLeases, lastNumber, now);
    this.#evict(now);
    this.#policies.push(policy);
    return policy;
  }

  /** Deletes expired policies, and the oldest ones until there is space for one more. */
  #evict(now: number): void {
    this.#policies = this.#policies.filter((policy) => !policy.isExpired(now));
    if (this.#policies.length < MAX_POLICIES) return;
    const oldest = Math.min(...this.#policies.map(({ order }) => order));
    this.#policies = this.#policies.filter(({ order }) => order !== oldest);
  }
}

function isAmount(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value < Infinity;
}
