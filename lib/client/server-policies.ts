// All that a server says about its limits, in bounded memory.

import type { QuotaPolicy, RateLimitInfo, ServiceLimit } from '../headers/types.js';
import type { OpenLeases } from './lease.js';
import type { Policy } from './policies.js';
import { REQUESTS, type ServerOptions, ServerPolicy } from './server-policy.js';

/** Most that are kept: those told last. */
const MOST_POLICIES = 16;
/** The window of a limit of which nobody has said how long it is, in seconds. */
const UNKNOWN_WINDOW_SECONDS = 60;

/** Which request a response answers. */
export interface Origin {
  /** All units that had been sent when it was. */
  readonly mark: number;
  /** Units that may have gone since then, or be under way: the server has not counted them. */
  readonly since: number;
}

/** What a snapshot keeps of a policy. */
export interface SavedLimit {
  name: string | null;
  partitionKey: string | null;
  remaining: number;
  resetSeconds: number;
}

export class ServerPolicies {
  readonly #options: ServerOptions;
  readonly #configured: readonly Policy[];
  readonly #open: OpenLeases;
  readonly #told = new Map<string, ServerPolicy>();

  constructor(options: ServerOptions, configured: readonly Policy[], open: OpenLeases) {
    this.#options = options;
    this.#configured = configured;
    this.#open = open;
  }

  readyAt(cost: number, now: number): number {
    let ready = -Infinity;
    for (const policy of this.#told.values()) ready = Math.max(ready, policy.readyAt(cost, now));
    return ready;
  }

  take(cost: number, now: number): void {
    for (const policy of this.#told.values()) policy.take(cost, now);
  }

  takeBytes(bytes: number, now: number): void {
    for (const policy of this.#told.values()) policy.takeBytes(bytes, now);
  }

  giveBack(cost: number, mark: number): void {
    for (const policy of this.#told.values()) policy.giveBack(cost, mark);
  }

  /** Takes over what a response said; whether it said that something is spent. */
  apply({ policies, limits }: RateLimitInfo, origin: Origin, now: number): boolean {
    for (const policy of policies.slice(0, MOST_POLICIES)) this.#applyPolicy(policy, now);
    let spent = false;
    for (const limit of limits.slice(0, MOST_POLICIES)) {
      if (!isAmount(limit.remaining)) continue;
      this.#applyLimit(limit, limit.remaining, origin, now);
      spent ||= limit.remaining === 0;
    }
    return spent;
  }

  /** Blocks the policies of that name alone. */
  block(name: string, seconds: number, mark: number, now: number): void {
    const named = [...this.#told.values()].filter((policy) => policy.name === name);
    if (named.length === 0) named.push(this.#policy(name, null, null, now));
    for (const policy of named) policy.block(seconds, mark, now);
  }

  save(now: number): SavedLimit[] {
    return [...this.#told.values()].flatMap((policy) => {
      const left = policy.left(now);
      return left ? [{ name: policy.name, partitionKey: policy.partitionKey, ...left }] : [];
    });
  }

  restore(saved: readonly SavedLimit[], elapsed: number, now: number): void {
    this.#told.clear();
    for (const { name, partitionKey, remaining, resetSeconds } of saved.slice(0, MOST_POLICIES)) {
      if (resetSeconds <= elapsed) continue;
      this.#policy(name, null, partitionKey, now).restore(remaining, resetSeconds - elapsed, now);
    }
  }

  #applyPolicy(policy: QuotaPolicy, now: number): void {
    const { name, quota, windowSeconds, unit, partitionKey } = policy;
    if (!isAmount(quota) || quota === 0 || !isAmount(windowSeconds) || windowSeconds === 0) return;
    const covered = this.#configured.some(
      (own) => own.windowSeconds === windowSeconds && own.quota <= quota,
    );
    const told = this.#policy(name, quota, partitionKey, now);
    told.tell({ quota, windowSeconds }, unit ?? REQUESTS, covered, now);
  }

  #applyLimit(limit: ServiceLimit, remaining: number, origin: Origin, now: number): void {
    const policy = this.#policy(limit.name, limit.limit, limit.partitionKey, now);
    const resetSeconds = isAmount(limit.resetSeconds)
      ? limit.resetSeconds
      : (policy.windowSeconds ?? this.#windowOf(limit));
    const since = policy.countsRequests ? origin.since : 0;
    const left = Math.max(0, remaining - since);
    policy.tellLeft({ remaining: left, resetSeconds, mark: origin.mark }, now);
  }

  #windowOf({ name, limit }: ServiceLimit): number {
    const own = this.#configured.find((policy) =>
      name === null ? policy.quota === limit : policy.name === name,
    );
    return own?.windowSeconds ?? UNKNOWN_WINDOW_SECONDS;
  }

  /** The policy of that name and partition; of those without a name, of that quota (draft 07). */
  #policy(
    name: string | null,
    quota: number | null,
    partitionKey: string | null,
    now: number,
  ): ServerPolicy {
    const key = JSON.stringify([name ?? quota ?? null, partitionKey ?? null]);
    const found = this.#told.get(key);
    const policy =
      found ?? new ServerPolicy(name ?? null, partitionKey ?? null, this.#options, this.#open, now);
    // Told last, stays longest.
    this.#told.delete(key);
    if (found === undefined) this.#makeRoom(now);
    this.#told.set(key, policy);
    return policy;
  }

  #makeRoom(now: number): void {
    for (const [key, policy] of this.#told) if (policy.isOver(now)) this.#told.delete(key);
    for (const key of this.#told.keys()) {
      if (this.#told.size < MOST_POLICIES) return;
      this.#told.delete(key);
    }
  }
}

function isAmount(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value < Infinity;
}
