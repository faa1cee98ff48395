// The limit that the scripts enforce, and the times that follow from it.

export interface Limit {
  readonly rateLimit: number;
  readonly burstLimit: number;
  readonly disconnectThreshold: number | null;
  readonly leaseSeconds: number;
  /** The lifetime of a lease with which more than half of the burst is on lease; at most `leaseSeconds`. */
  readonly shortLeaseSeconds: number;
}

/** The share of the burst that may be on lease for `leaseSeconds`. */
export const LEASED_SHARE = 0.5;

/** A cost of a first check is held for up to so much longer than a short lease, as a share of that. */
export const FIRST_SPARE = 0.5;

const SHORT_LEASE_SECONDS = 0.5;
const DEFAULT_LEASE_SECONDS = 30;
/** Seconds for which violations are kept after the last check. */
const VIOLATIONS_SECONDS = 3600;
/** A key is kept this much longer than it is needed. Longer than the error of any clock or timer. */
const SPARE_SECONDS = 1;
const MAX_TTL_MS = 1e14;
/** A key is renewed when less time to live is left than is needed: to what is needed plus these seconds. */
export const RENEWAL_SECONDS = 8;

/**
 * Returns the lifetimes of leases: `leaseSeconds`, by default 30, but at least twice the deadline. A lifetime starts when the
 * lease is requested, so a shorter lease could end before its reply arrives, or before a check is repeated one deadline
 * later, as its DELAY says.
 */
export function leaseLifetimes(
  leaseSeconds: number | undefined,
  deadlineSeconds: number,
): Pick<Limit, 'leaseSeconds' | 'shortLeaseSeconds'> {
  const least = Math.min(2 * deadlineSeconds, Number.MAX_VALUE);
  const long = Math.max(leaseSeconds ?? DEFAULT_LEASE_SECONDS, least);
  const short = Math.min(Math.max(SHORT_LEASE_SECONDS, least), long);
  return { leaseSeconds: long, shortLeaseSeconds: short };
}

/** Seconds after which an unused bucket is full, whatever was on lease. Then its key is not needed. */
export function maxRefillSeconds(limit: Limit): number {
  const held = Math.max(limit.leaseSeconds, limit.shortLeaseSeconds * (1 + FIRST_SPARE));
  return held + limit.burstLimit / limit.rateLimit;
}

/** Milliseconds for which a peer's key is kept after its last use, at least. */
export function ttlMs(limit: Limit, { isOffender = false } = {}): number {
  const seconds = Math.max(maxRefillSeconds(limit), isOffender ? VIOLATIONS_SECONDS : 0);
  return Math.min(Math.ceil((seconds + SPARE_SECONDS) * 1000), MAX_TTL_MS);
}
