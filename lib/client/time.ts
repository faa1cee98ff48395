// Sums and differences of times in doubles that are never too early. A plain sum is rounded to the nearest
// double, so it may be early by up to half a unit in the last place.

import { type Clock, readClock } from '../common/clock.js';

/**
 * Returns the time `seconds` after `time`. At that time at least `seconds` have passed, however large `time`
 * is: epoch seconds have steps of a quarter of a microsecond. Infinities stay infinite.
 */
export function addSeconds(time: number, seconds: number): number {
  const sum = time + seconds;
  // Callers subtract either number from the sum, so both differences must be large enough.
  return sum - time < seconds || sum - seconds < time ? nudgeUp(sum) : sum;
}

/** Returns the seconds from `now` until `time`; 0 if `time` has passed. After that wait, `time` has come. */
export function secondsUntil(time: number, now: number): number {
  if (time <= now) return 0;
  const seconds = time - now;
  return now + seconds < time ? nudgeUp(seconds) : seconds;
}

/** Adds one or two units in the last place. One rounding takes away at most half a unit. */
function nudgeUp(value: number): number {
  return value + Math.abs(value) * 2 ** -52;
}

/** Returns a clock that stands still while the given one steps back. It throws ERR_LIMITER_CLOCK for no number. */
export function neverBackwards(clock: Clock): () => number {
  let latest = -Infinity;
  return () => {
    latest = Math.max(latest, readClock(clock));
    return latest;
  };
}
