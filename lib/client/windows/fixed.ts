// Fixed windows, spent and paced as aiohivebot does (a Python client of Hive nodes, 0.2.5 to 0.3.0):
// for reproducing and comparing. A server with sliding windows, or windows of another phase, refuses
// some of what it sends.
//
// - A window begins with the first request after the end of the last one.
// - One window decides: of those that are spent the one that ends last, else the one with the fewest
//   units left, and of several such the one that ends last.
// - Up to a fifth of the quota at once, and up to 30 % ahead of an even spend, goes freely; beyond
//   that the units left are spread over the time left, counted from the last request, until the even
//   spend has caught up.
// - A spent window is waited for, but not longer than 900 s: then one request tries.
//
// What differs: requests count when they are sent, not when the response arrives (one after the other
// the figures are the same; together they no longer all go at once), no unit is paced beyond the end
// of its window, and the first tick of a window divides by nothing.

import type { Policy } from '../policies.js';
import { type Quotas, savedNumbers } from './quotas.js';

const FREE_SHARE = 0.2;
const AHEAD = 1.3;
const MARGIN_SECONDS = 0.1;
const PROBE_SECONDS = 900;

interface Window {
  readonly quota: number;
  readonly windowSeconds: number;
  /** Below 0 after a request that went though the window was spent. */
  remaining: number;
  resetAt: number;
}

export class FixedWindows implements Quotas {
  readonly #windows: readonly Window[];
  #lastTake: number;

  constructor(policies: readonly Policy[], now: number) {
    this.#windows = policies.map(({ quota, windowSeconds }) => {
      return { quota, windowSeconds, remaining: quota, resetAt: now + windowSeconds };
    });
    this.#lastTake = -Infinity;
  }

  static restore(
    policies: readonly Policy[],
    saved: readonly unknown[],
    now: number,
  ): FixedWindows | undefined {
    const quotas = new FixedWindows(policies, now);
    for (const [at, window] of quotas.#windows.entries()) {
      const numbers = savedNumbers(saved[at], ({ length }) => length === 2 || length === 3);
      const [remaining, resetIn, lastTake] = numbers ?? [];
      if (remaining === undefined || resetIn === undefined) return undefined;
      window.remaining = Math.min(remaining, window.quota);
      window.resetAt = now + Math.min(resetIn, window.windowSeconds);
      if (lastTake !== undefined) quotas.#lastTake = now + Math.min(lastTake, 0);
    }
    return quotas;
  }

  readyAt(cost: number, now: number): number {
    let end = -Infinity;
    let scarcest: Window | undefined;
    for (const window of this.#windows) {
      // A cost above the quota waits for the next window, and after that for as many as it fills.
      const rounds = Math.max(0, Math.ceil(cost / window.quota) - 1);
      const left = unitsLeft(window, now);
      if (rounds > 0) {
        end = Math.max(end, Math.max(now, window.resetAt) + (rounds - 1) * window.windowSeconds);
      } else if (left === 0 || left < cost) {
        end = Math.max(end, window.resetAt);
      } else if (scarcest === undefined || isScarcer(window, scarcest, now)) {
        scarcest = window;
      }
    }
    if (end > -Infinity) return Math.min(end + MARGIN_SECONDS, this.#lastTake + PROBE_SECONDS);
    return scarcest === undefined ? -Infinity : this.#pacedUntil(scarcest, cost, now);
  }

  take(cost: number, now: number): void {
    for (const window of this.#windows) {
      if (now >= window.resetAt) {
        window.resetAt = now + window.windowSeconds;
        window.remaining = window.quota;
      }
      window.remaining -= cost;
    }
    this.#lastTake = now;
  }

  giveBack(cost: number, at: number): void {
    for (const window of this.#windows) {
      if (at + window.windowSeconds >= window.resetAt) window.remaining += cost;
    }
  }

  save(now: number): number[][] {
    const last = this.#lastTake === -Infinity ? [] : [this.#lastTake - now];
    return this.#windows.map(({ remaining, resetAt }) => [remaining, resetAt - now, ...last]);
  }

  #pacedUntil(window: Window, cost: number, now: number): number {
    const last = this.#lastTake;
    const left = window.resetAt - last;
    // Nothing has gone in this window.
    if (now >= window.resetAt || left > window.windowSeconds) return -Infinity;
    const spent = window.quota - window.remaining;
    if (spent <= window.quota * FREE_SHARE) return -Infinity;
    const secondsPerUnit = window.windowSeconds / window.quota;
    const caughtUp = window.resetAt - window.windowSeconds + (spent / AHEAD) * secondsPerUnit;
    const each = window.remaining > 0.5 ? left / (window.remaining - 0.5) : left;
    return Math.min(last + each * Math.max(1, cost), caughtUp, window.resetAt);
  }
}

function isScarcer(a: Window, b: Window, now: number): boolean {
  const left = unitsLeft(a, now) - unitsLeft(b, now);
  return left === 0 ? endOf(a, now) > endOf(b, now) : left < 0;
}

// A window that is over looks like a fresh one.
function unitsLeft({ quota, remaining, resetAt }: Window, now: number): number {
  return now < resetAt ? Math.max(0, remaining) : quota;
}

function endOf({ windowSeconds, resetAt }: Window, now: number): number {
  return now < resetAt ? resetAt : now + windowSeconds;
}
