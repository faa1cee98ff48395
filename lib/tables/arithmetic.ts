// The arithmetic of token buckets and elapsed time. Counterpart of native/limiters/arithmetic.h, with the same order of
// operations, so that both engines return bit-identical results. All numbers are IEEE doubles and each operation rounds
// once; a division must not become a multiplication. JavaScript has no references to numbers, so `refill` is only the
// first half of consume(); the second half is in Buckets.

/** Stands for the time of an event that has not happened. */
export const NEVER = -Infinity;

/** Seconds from `then` to `now`; 0 if the clock has stepped back. */
export function elapsed(now: number, then: number): number {
  return now > then ? now - then : 0;
}

/** The rest of a duration of which `passed` seconds are over. */
export function secondsLeft(duration: number, passed: number): number {
  return passed < duration ? duration - passed : 0;
}

/** The tokens of a bucket after a refill at `now`. `rate` is in tokens per second. */
export function refill(
  tokens: number,
  lastRefill: number,
  now: number,
  rate: number,
  capacity: number,
): number {
  const seconds = elapsed(now, lastRefill);
  const refilled = tokens + seconds * rate;
  // Written so that a NaN, if there ever were one, fills the bucket and does not stay in it.
  return refilled < capacity ? refilled : capacity;
}

/** Seconds from the last refill until a bucket has `cost` tokens; Infinity if it never can. */
export function delaySeconds(tokens: number, cost: number, rate: number, capacity: number): number {
  if (tokens >= cost) return 0;
  return cost > capacity ? Infinity : (cost - tokens) / rate;
}

/** Seconds from `now` until a bucket is full if nothing is taken; 0 if it is full. */
export function secondsUntilFull(
  tokens: number,
  lastRefill: number,
  now: number,
  rate: number,
  capacity: number,
): number {
  const missing = capacity - (tokens + elapsed(now, lastRefill) * rate);
  return missing > 0 ? missing / rate : 0;
}
