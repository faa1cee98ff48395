// The token bucket and elapsed time; nothing else. Twin of native/arithmetic.h: same names, same
// order of operations, so that both engines agree to the last bit. IEEE doubles, one rounding an
// operation; a division stays a division.

/** An instant before every other: "has not happened". */
export const NEVER = -Infinity;

/** Seconds from `then` to `now`; 0 if the clock has stepped back. */
export function elapsed(now: number, then: number): number {
  return now > then ? now - then : 0;
}

export interface Bucket {
  tokens: number;
  /** When it was last refilled: at each consume, refused or not. */
  lastRefill: number;
}

/** Refills, then takes `cost` if it is there. `rate` is in tokens a second. */
export function consume(
  bucket: Bucket,
  cost: number,
  now: number,
  rate: number,
  capacity: number,
): boolean {
  const seconds = elapsed(now, bucket.lastRefill);
  const refilled = bucket.tokens + seconds * rate;
  bucket.lastRefill = now;
  // Written so that a NaN, should there ever be one, fills the bucket instead of opening it for good.
  bucket.tokens = refilled < capacity ? refilled : capacity;
  if (!(bucket.tokens >= cost)) return false;
  bucket.tokens -= cost;
  return true;
}

/** Seconds until `cost` tokens are there, as of the last refill; Infinity if they cannot be. */
export function delaySeconds(bucket: Bucket, cost: number, rate: number, capacity: number): number {
  if (bucket.tokens >= cost) return 0;
  return cost > capacity ? Infinity : (cost - bucket.tokens) / rate;
}
