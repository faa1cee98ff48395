// What the tests of guards share: limiters that run out, waiting, and what came too early.

import { setTimeout } from 'node:timers/promises';
import { RateLimiter, type RateLimiterOptions } from 'relay-limiter';
import { manualClock } from './limiters.js';

/** So many tokens and no more. */
export function few(burstLimit: number, options: RateLimiterOptions = {}): RateLimiter {
  return new RateLimiter({ rateLimit: 0.001, burstLimit, clock: manualClock(), ...options });
}

/** Waits until something holds; the test's own time is the limit. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await setTimeout(5);
}

/** A clock in real time, that tells when it was read last: what a check took for its own time. */
export function watchedClock() {
  const clock = Object.assign(() => (clock.last = performance.now() / 1000), { last: 0 });
  return clock;
}

/** Of `times` in seconds, which are too early for a limit of so many a second after a burst. */
export function tooEarly(times: readonly number[], rate: number, burst: number): number[] {
  const [start = 0] = times;
  // Sums of fractions end in other digits.
  return times.filter((time, n) => time < start + (n + 1 - burst) / rate - 1e-6);
}
