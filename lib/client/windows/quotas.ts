// What an algorithm does with quotas. It knows policies, costs and times; no servers, queues or leases.

/** The accounting of several windows, each of which every request counts in. */
export interface Quotas {
  /**
   * The earliest time at which `cost` may go, not after `now` where it may at once. A cost above a
   * quota never may: then a time before which that much, in parts, cannot all have gone.
   */
  readyAt(cost: number, now: number): number;
  /** Counts `cost`, whether or not it may go. */
  take(cost: number, now: number): void;
  /**
   * Undoes a take of `cost` at the time `at`, as far as that cannot lead to more than a quota in any
   * interval of its window. A take is undone once.
   */
  giveBack(cost: number, at: number, now: number): void;
  /** Finite numbers for each window; times are relative to `now`. */
  save(now: number): number[][];
}

/** One window of an algorithm that counts each for itself. */
export interface QuotaWindow {
  readyAt(cost: number, now: number): number;
  take(cost: number, now: number): void;
  giveBack(cost: number, at: number, now: number): void;
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

  giveBack(cost: number, at: number, now: number): void {
    for (const window of this.#windows) window.giveBack(cost, at, now);
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
