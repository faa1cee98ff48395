// What an algorithm does with quotas. It knows policies, costs and times; no servers, queues or leases.

import type { Policy } from '../policies.js';

/** What `giveBack` must know of a take: a number for each window. */
export type Receipt = readonly number[];

/** The accounting of several windows, each of which every request counts in. */
export interface Quotas {
  /**
   * The earliest time at which `cost` may go, not after `now` where it may at once. A cost above a
   * quota never may: then a time before which that much, in parts, cannot all have gone.
   */
  readyAt(cost: number, now: number): number;
  /** Counts `cost`, whether or not it may go. */
  take(cost: number, now: number): void;
  /** Of the last take. */
  receipt(): Receipt;
  /** Undoes a take, as far as that cannot lead to more than a quota in any interval of its window. */
  giveBack(cost: number, receipt: Receipt, now: number): void;
  /** Finite numbers for each window; times are relative to `now`. */
  save(now: number): number[][];
}

/** One window of an algorithm that counts each for itself. */
export interface QuotaWindow {
  readyAt(cost: number, now: number): number;
  take(cost: number, now: number): void;
  receipt(): number;
  giveBack(cost: number, receipt: number, now: number): void;
  save(now: number): number[];
}

/** Windows of which none knows the others: a request goes when the last of them lets it. */
export class IndependentWindows implements Quotas {
  readonly #windows: readonly QuotaWindow[];

  constructor(windows: readonly QuotaWindow[]) {
    this.#windows = windows;
  }

  readyAt(cost: number, now: number): number {
    let ready = -Infinity;
    for (const window of this.#windows) ready = Math.max(ready, window.readyAt(cost, now));
    return ready;
  }

  take(cost: number, now: number): void {
    for (const window of this.#windows) window.take(cost, now);
  }

  receipt(): Receipt {
    return this.#windows.map((window) => window.receipt());
  }

  giveBack(cost: number, receipt: Receipt, now: number): void {
    for (const [at, window] of this.#windows.entries()) {
      window.giveBack(cost, receipt[at] ?? -Infinity, now);
    }
  }

  save(now: number): number[][] {
    return this.#windows.map((window) => window.save(now));
  }
}

/**
 * A saved window, or undefined where it is none: finite numbers, as many as `fits` takes.
 */
export function savedNumbers(
  saved: unknown,
  fits: (numbers: number[]) => boolean,
): number[] | undefined {
  return Array.isArray(saved) && saved.every(Number.isFinite) && fits(saved) ? saved : undefined;
}

/** Makes one window: a fresh one, or a saved one whose times count from `now`; undefined: unreadable. */
export type Restore<T> = (policy: Policy, saved: unknown, now: number) => T | undefined;
