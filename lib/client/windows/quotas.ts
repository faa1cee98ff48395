// The interfaces of an algorithm that counts quotas. It handles policies, costs and times only: no servers,
// queues or leases. Times are seconds of a monotonic clock.

/** The accounting of several windows. Every request counts in each of them. */
export interface Quotas {
  /**
   * Returns the earliest time at which `cost` can be taken; it is not after `now` if `cost` can be taken now.
   * A cost above a quota can never be taken at once: then this is a time before which such an amount cannot
   * have been taken in parts.
   */
  readyAt(cost: number, now: number): number;
  /** Counts `cost`, even if it exceeds what is available. */
  take(cost: number, now: number): void;
  /**
   * Undoes a take at the time `at`, of `cost` and of `kept`, which stays spent (default 0), as far as this cannot
   * lead to more than a quota in any interval of its window. Must be called once at most for each take.
   */
  refund(cost: number, at: number, now: number, kept?: number): void;
  /** Returns finite numbers for each window. Times are relative to `now`. */
  save(now: number): number[][];
}

/** One window of an algorithm that counts its windows independently. */
export interface QuotaWindow {
  readyAt(cost: number, now: number): number;
  take(cost: number, now: number): void;
  refund(cost: number, at: number, now: number, kept?: number): void;
  save(now: number): number[];
}

/** Independent windows: a request can be sent when every window allows it. */
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

  refund(cost: number, at: number, now: number, kept?: number): void {
    for (const window of this.#windows) window.refund(cost, at, now, kept);
  }

  save(now: number): number[][] {
    return this.#windows.map((window) => window.save(now));
  }
}

/** Returns a saved window: finite numbers that `isValid` accepts. Returns undefined for anything else. */
export function readSavedNumbers(
  saved: unknown,
  isValid: (numbers: number[]) => boolean,
): number[] | undefined {
  return Array.isArray(saved) && saved.every(Number.isFinite) && isValid(saved) ? saved : undefined;
}
