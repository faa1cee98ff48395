// All that a server says about its limits, in bounded memory.

import type { QuotaPolicy, RateLimitInfo, ServiceLimit } from '../headers/types.js';
import type { OpenLeases, QuotaLease, Taken } from './lease.js';
import type { Policy } from './policies.js';
import {
  type Left,
  type PolicyKey,
  REQUESTS,
  type SavedWindow,
  type ServerOptions,
  ServerPolicy,
} from './server-policy.js';

/** Most that are kept: those told last. */
const MOST_POLICIES = 16;
/** The window of a limit of which nobody has said how long it is, in seconds. */
const UNKNOWN_WINDOW_SECONDS = 60;

/** Which request a response answers. */
export interface Origin {
  /** Its number; that of the earliest it may be. */
  readonly number: number;
  /** Units that the server may not have counted in what it says: under way with it at some time. */
  readonly uncounted: number;
  /** Those of them that are under way still. */
  readonly underWay: number;
}

/** What a snapshot keeps of what is left. */
export interface SavedLimit extends PolicyKey, Left {}

/** What a snapshot keeps of a policy that counts. */
export interface SavedPolicy extends PolicyKey, SavedWindow {
  readonly quota: number;
}

export class ServerPolicies {
  readonly #options: ServerOptions;
  readonly #configured: readonly Policy[];
  readonly #open: OpenLeases<QuotaLease>;
  #told = new Map<string, ServerPolicy>();

  constructor(options: ServerOptions, configured: readonly Policy[], open: OpenLeases<QuotaLease>) {
    this.#options = options;
    this.#configured = configured;
    this.#open = open;
  }

  readyAt(cost: number, now: number): number {
    let ready = -Infinity;
    for (const policy of this.#told.values()) ready = Math.max(ready, policy.readyAt(cost, now));
    return ready;
  }

  take(cost: number, number: number, now: number): void {
    for (const policy of this.#told.values()) policy.take(cost, number, now);
  }

  takeBytes(bytes: number, now: number): void {
    for (const policy of this.#told.values()) policy.takeBytes(bytes, now);
  }

  giveBack(taken: Taken, now: number): void {
    for (const policy of this.#told.values()) policy.giveBack(taken, now);
  }

  /** Takes over what a response said; whether it said that something is spent. `last`: see `block`. */
  apply({ policies, limits }: RateLimitInfo, origin: Origin, last: number, now: number): boolean {
    for (const policy of policies.slice(0, MOST_POLICIES)) this.#applyPolicy(policy, last, now);
    let spent = false;
    for (const limit of limits.slice(0, MOST_POLICIES)) {
      if (!isAmount(limit.remaining)) continue;
      this.#applyLimit(limit, limit.remaining, origin, last, now);
      spent ||= limit.remaining === 0;
    }
    return spent;
  }

  /** Blocks the policies of that name alone. `last`: the number of the last request. */
  block(name: string, seconds: number, last: number, now: number): void {
    const named = [...this.#told.values()].filter((policy) => policy.key.name === name);
    if (named.length === 0) {
      named.push(this.#policy({ name, quota: null, partitionKey: null }, last, now));
    }
    for (const policy of named) policy.block(seconds, now);
  }

  save(now: number): { limits: SavedLimit[]; told: SavedPolicy[] } {
    const policies = [...this.#told.values()];
    return {
      limits: policies.flatMap((policy) => {
        const left = policy.left(now);
        return left ? [{ ...policy.key, ...left }] : [];
      }),
      told: policies.flatMap((policy) => {
        const window = policy.window(now);
        return window ? [{ ...policy.key, ...window }] : [];
      }),
    };
  }

  /** Undoes `save`; false, and nothing has changed, where the state of a window is none. */
  restore(
    limits: readonly SavedLimit[],
    told: readonly SavedPolicy[],
    elapsed: number,
    now: number,
  ): boolean {
    const before = this.#told;
    this.#told = new Map();
    for (const saved of told.slice(0, MOST_POLICIES)) {
      if (saved.staysSeconds <= elapsed) continue;
      if (this.#policy(saved, -Infinity, now).restoreWindow(saved, elapsed, now)) continue;
      this.#told = before;
      return false;
    }
    for (const saved of limits.slice(0, MOST_POLICIES)) {
      if (Math.max(saved.resetSeconds, saved.blockedSeconds) <= elapsed) continue;
      this.#policy(saved, -Infinity, now).restoreLeft(saved, elapsed, now);
    }
    return true;
  }

  #applyPolicy(policy: QuotaPolicy, last: number, now: number): void {
    const { quota, windowSeconds, unit } = policy;
    if (!isAmount(quota) || quota === 0 || !isAmount(windowSeconds) || windowSeconds === 0) return;
    const covered = this.#configured.some(
      (own) => own.windowSeconds === windowSeconds && own.quota <= quota,
    );
    const told = this.#policy(policy, last, now);
    told.tell({ quota, windowSeconds }, unit ?? REQUESTS, covered, last, now);
  }

  #applyLimit(
    limit: ServiceLimit,
    remaining: number,
    origin: Origin,
    last: number,
    now: number,
  ): void {
    const { name, limit: quota, partitionKey } = limit;
    const policy = this.#policy({ name, quota, partitionKey }, last, now);
    const resetSeconds = isAmount(limit.resetSeconds)
      ? limit.resetSeconds
      : (policy.windowSeconds ?? this.#windowOf(limit));
    policy.tellLeft({ remaining, resetSeconds, ...origin }, now);
  }

  #windowOf({ name, limit }: ServiceLimit): number {
    const own = this.#configured.find((policy) =>
      name === null ? policy.quota === limit : policy.name === name,
    );
    return own?.windowSeconds ?? UNKNOWN_WINDOW_SECONDS;
  }

  #policy(
    { name = null, quota, partitionKey }: PolicyKey,
    last: number,
    now: number,
  ): ServerPolicy {
    const key = {
      name,
      quota: name === null && isAmount(quota) ? quota : null,
      partitionKey: partitionKey ?? null,
    };
    const text = JSON.stringify([key.name ?? key.quota, key.partitionKey]);
    const found = this.#told.get(text);
    const policy = found ?? new ServerPolicy(key, this.#options, this.#open, last, now);
    // Told last, stays longest.
    this.#told.delete(text);
    if (found === undefined) this.#makeRoom(now);
    this.#told.set(text, policy);
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
