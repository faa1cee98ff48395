// Sums of times that never come too early: where a double cannot hold the sum, the next one does.

/**
 * The time `seconds` after `time`, in doubles: never one at which fewer have passed, however large
 * `time` is (epoch seconds have steps of a quarter of a microsecond). Infinities stay what they are.
 */
export function later(time: number, seconds: number): number {
  let sum = time + seconds;
  // Both ways in which a caller may look at it.
  while (sum - time < seconds || sum - seconds < time) sum += step(sum, time, seconds);
  return sum;
}

/** Seconds from `now` until `time`; after waiting them it is not before `time`. 0 once it is past. */
export function secondsUntil(time: number, now: number): number {
  if (time <= now) return 0;
  let seconds = time - now;
  while (now + seconds < time) seconds += step(seconds, time, now);
  return seconds;
}

/** What changes `sum`, if no more than it takes to change what the others make of it. */
function step(sum: number, ...others: readonly number[]): number {
  return Math.max(Math.abs(sum) * 2 ** -52, ...others.map((time) => Math.abs(time) * 2 ** -53));
}
