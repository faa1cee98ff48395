// What the cases of one table for many processes and their workers agree on.

import type { RateLimiter } from 'relay-limiter';

export const RATE = 1e6;
export const BURST = 1e9;
/** The delay of a refusal by a part of the table that is stalled (docs/one-machine.md). */
export const STALLED_SECONDS = 0.05;

export const CLUSTER = "rate-limiter-flexible's cluster limiter";
export const REDIS = "rate-limiter-flexible's Redis limiter";

/** What another process does all the time, while checks are measured. */
export const VISITS = {
  statistics: (limiter: RateLimiter) => limiter.getStats(),
  // Of peers that nobody has checked for years, so it finds none.
  cleanup: (limiter: RateLimiter) => limiter.cleanupOldPeers(1e9),
  snapshot: (limiter: RateLimiter) => limiter.snapshot(),
};
export type Work = keyof typeof VISITS;
export const KEEPS_BUSY = Object.keys(VISITS) as Work[];

export type Order = { checks: number } | { keepBusy: Work } | { rest: true };

export interface WorkerOptions {
  /** The limiter of another package; without it, a RateLimiter with `shared`. */
  limiter?: string;
  peers: number;
  /** Default: the peers, at least 1,000. */
  maxPeers?: number;
  shared?: string;
}
