// The logic of a node without its server: returns the answer to a request from the node's policies and the time. As many real
// servers do, a node punishes a client that ignores a 429.

import { formatRateLimitHeaders } from 'relay-limiter/headers';
import type { NodeSpec } from './nodes.js';

export interface Answer {
  /** 200 or 429. */
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** The time that the node needs for the answer. */
  readonly latencySeconds: number;
}

/** Seconds that a client waits longer if it sends again before a refusal is over; once for each refusal. */
export const PUNISHMENT = 10;

export class LimitedNode {
  readonly #spec: NodeSpec;
  readonly #windows: readonly FixedWindow[];
  #refusedUntil = Number.NEGATIVE_INFINITY;
  #isPunished = false;

  /** @param now seconds, on the same clock as in all other calls */
  constructor(spec: NodeSpec, now: number) {
    this.#spec = spec;
    this.#windows = spec.policies.map((policy) => new FixedWindow(policy, now));
  }

  /** Answers one request, and counts it if it is not refused. */
  answer(now: number): Answer {
    const isAllowed = this.#isAllowed(now);
    if (isAllowed) for (const window of this.#windows) window.count();
    const { draft, policies, latencySeconds } = this.#spec;
    const limits = this.#windows.map((window) => window.limit(now));
    const headers =
      draft === undefined ? {} : formatRateLimitHeaders({ policies, limits }, { draft });
    if (isAllowed) return { status: 200, headers, latencySeconds };
    const seconds = Math.ceil(this.#refusedUntil - now);
    return {
      status: 429,
      headers: { ...headers, 'Retry-After': String(seconds) },
      latencySeconds: 0,
    };
  }

  /** Decides about a request. A refusal lasts until the windows have room; if it is ignored, `PUNISHMENT` longer. */
  #isAllowed(now: number): boolean {
    if (now < this.#refusedUntil) {
      if (!this.#isPunished) this.#refusedUntil += PUNISHMENT;
      this.#isPunished = true;
      return false;
    }
    const full = this.#windows.filter((window) => window.remaining(now) === 0);
    if (full.length === 0) return true;
    this.#refusedUntil = now + Math.max(...full.map((window) => window.resetSeconds(now)));
    this.#isPunished = false;
    return false;
  }
}

class FixedWindow {
  readonly #policy: NodeSpec['policies'][number];
  #endsAt: number;
  #used = 0;

  constructor(policy: NodeSpec['policies'][number], now: number) {
    this.#policy = policy;
    this.#endsAt = now + Math.random() * policy.windowSeconds;
  }

  remaining(now: number): number {
    const { quota, windowSeconds } = this.#policy;
    for (; now >= this.#endsAt; this.#endsAt += windowSeconds) this.#used = 0;
    return quota - this.#used;
  }

  resetSeconds(now: number): number {
    return this.#endsAt - now;
  }

  count(): void {
    this.#used += 1;
  }

  limit(now: number) {
    const { name, quota } = this.#policy;
    return {
      name,
      limit: quota,
      remaining: this.remaining(now),
      resetSeconds: this.resetSeconds(now),
    };
  }
}
