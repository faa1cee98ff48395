// What the cases of one table for many processes and their workers agree on.

export const RATE = 1e6;
export const BURST = 1e9;
/** The delay of a refusal by a part of the table that is stalled (docs/one-machine.md). */
export const STALLED_SECONDS = 0.05;

export const CLUSTER = "rate-limiter-flexible's cluster limiter";
export const REDIS = "rate-limiter-flexible's Redis limiter";

/** What another process does all the time, while checks are measured. */
export const KEEPS_BUSY = ['statistics', 'cleanup'] as const;

export type Order = { checks: number } | { keepBusy: (typeof KEEPS_BUSY)[number] };

export interface WorkerOptions {
  /** The limiter of another package; without it, a RateLimiter with `shared`. */
  limiter?: string;
  peers: number;
  shared?: string;
}
