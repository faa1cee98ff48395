// Fixed windows with the spending and pacing of aiohivebot (a Python client of Hive nodes, 0.2.5 to 0.3.0),
// for reproduction and comparison. A server with sliding windows, or with windows of another phase, refuses
// some of its requests.
//
// - A window begins with the first request after the end of the previous window.
// - One window decides. If some windows are spent, it is the one of them that ends last; otherwise it is the
//   one with the fewest units left, and among equals the one that ends last.
// - Up to a fifth of the quota in one burst, and up to 30 % ahead of an even pace, requests are sent at once.
//   Beyond that, the units left are spread over the time left, counted from the last request, until the even
//   pace has caught up.
// - After a spent window the wait is at most 900 s: then one request is sent as a probe.
//
// Differences from aiohivebot: requests count when they are sent, not when the response arrives (sequential
// requests give the same figures; concurrent ones are not all sent at once), no unit is paced beyond
// the end of its window, and the first tick of a window does not divide by 0.

import type { Policy } from '../policies.js';
import { type Quotas, readSavedNumbers } from './quotas.js';

const FREE_SHARE = 0.2;
const AHEAD_FACTOR = 1.3;
const MARGIN_SECONDS = 0.1;
const PROBE_SECONDS = 900;

interface FixedWindow {
  readonly quota: number;
  readonly windowSeconds: number;
  /** Units left; below 0 after a request that was sent although the window was spent. */
  remaining: number;
  resetAt: number;
}

export class FixedWindows implements Quotas {
  readonly #windows: readonly FixedWindow[];
  #lastTakeAt: number;

  constructor(policies: readonly Policy[], now: number) {
    this.#windows = policies.map(({ quota, windowSeconds }) => {
      return { quota, windowSeconds, remaining: quota, resetAt: now + windowSeconds };
    });
    this.#lastTakeAt = -Infinity;
  }

  static restore(
    policies: readonly Policy[],
    saved: readonly unknown[],
    now: number,
  ): FixedWindows | undefined {
    const quotas = new FixedWindows(policies, now);
    for (const [index, window] of quotas.#windows.entries()) {
      const numbers = readSavedNumbers(saved[index], ({ length }) => length === 2 || length === 3);
      const [remaining, resetIn, lastTake] = numbers ?? [];
      if (remaining === undefined || resetIn === undefined) return undefined;
      window.remaining = Math.min(remaining, window.quota);
      window.resetAt = now + Math.min(resetIn, window.windowSeconds);
      if (lastTake !== undefined) quotas.#lastTakeAt = now + Math.min(lastTake, 0);
    }
    return quotas;
  }

  readyAt(cost: number, now: number): number {
    let endOfSpent = -Infinity;
    let scarcest: FixedWindow | undefined;
    for (const window of this.#windows) {
      // A cost above the quota waits for the next window, and then for as many windows as it fills.
      const rounds = Math.max(0, Math.ceil(cost / window.quota) - 1);
      const left = unitsLeft(window, now);
      if (rounds > 0) {
        const end = Math.max(now, window.resetAt) + (rounds - 1) * window.windowSeconds;
        endOfSpent = Math.max(endOfSpent, end);
      } else if (left === 0 || left < cost) {
        endOfSpent = Math.max(endOfSpent, window.resetAt);
      } else if (scarcest === undefined || isScarcer(window, scarcest, now)) {
        scarcest = window;
      }
    }
    if (endOfSpent > -Infinity) {
      return Math.min(endOfSpent + MARGIN_SECONDS, this.#lastTakeAt + PROBE_SECONDS);
    }
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
    this.#lastTakeAt = now;
  }

  refund(cost: number, at: number): void {
    for (const window of this.#windows) {
      if (at + window.windowSeconds >= window.resetAt) window.remaining += cost;
    }
  }

  save(now: number): number[][] {
    const last = this.#lastTakeAt === -Infinity ? [] : [this.#lastTakeAt - now];
    return this.#windows.map(({ remaining, resetAt }) => [remaining, resetAt - now, ...last]);
  }

  #pacedUntil(window: FixedWindow, cost: number, now: number): number {
    const last = this.#lastTakeAt;
    const secondsLeft = window.resetAt - last;
    // No request was sent in this window.
    if (now >= window.resetAt || secondsLeft > window.windowSeconds) return -Infinity;
    const spent = window.quota - window.remaining;
    if (spent <= window.quota * FREE_SHARE) return -Infinity;
    const secondsPerUnit = window.windowSeconds / window.quota;
    const windowStart = window.resetAt - window.windowSeconds;
    const caughtUpAt = windowStart + (spent / AHEAD_FACTOR) * secondsPerUnit;
    const paceSeconds =
      window.remaining > 0.5 ? secondsLeft / (window.remaining - 0.5) : secondsLeft;
    return Math.min(last + paceSeconds * Math.max(1, cost), caughtUpAt, window.resetAt);
  }
}

function isScarcer(a: FixedWindow, b: FixedWindow, now: number): boolean {
  const difference = unitsLeft(a, now) - unitsLeft(b, now);
  return difference === 0 ? endOf(a, now) > endOf(b, now) : difference < 0;
}

// A window that has ended counts as a fresh one.
function unitsLeft({ quota, remaining, resetAt }: FixedWindow, now: number): number {
  return now < resetAt ? Math.max(0, remaining) : quota;
}

function endOf({ windowSeconds, resetAt }: FixedWindow, now: number): number {
  return now < resetAt ? resetAt : now + windowSeconds;
}
