// The token bucket and elapsed time; nothing else. Twin of native/limiters/arithmetic.h: same names, same
// order of operations, so that both engines agree to the last bit. IEEE doubles, one rounding an
// operation; a division stays a division. Numbers have no references here: `refill` is the first
// half of consume, the other half is where the numbers are kept.

/** An instant before every other: "has not happened". */
export const NEVER = -Infinity;

/** Seconds from `then` to `now`; 0 if the clock has stepped back. */
export function elapsed(now: number, then: number): number {
  return now > then ? now - then : 0;
}

/** Seconds until `duration` is over, of which `passed` have passed. */
export function secondsLeft(duration: number, passed: number): number {
  return passed < duration ? duration - passed : 0;
}

/** Tokens after a refill, where `tokens` were at `lastRefill`. `rate` is in tokens a second. */
export function refill(
  tokens: number,
  lastRefill: number,
  now: number,
  rate: number,
  capacity: number,
): number {
  const seconds = elapsed(now, lastRefill);
  const refilled = tokens + seconds * rate;
  // Written so that a NaN, should there ever be one, fills the bucket instead of opening it for good.
  return refilled < capacity ? refilled : capacity;
}

/** Seconds until `cost` tokens are there, as of the last refill; Infinity if they cannot be. */
export function delaySeconds(tokens: number, cost: number, rate: number, capacity: number): number {
  if (tokens >= cost) return 0;
  return cost > capacity ? Infinity : (cost - tokens) / rate;
}

/** Seconds until the bucket is full, if nothing is taken; 0 if it is. */
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
