// What the tests of guards share: limiters that run out, waiting, and a flood that heeds back pressure.

import { RateLimiter, type RateLimiterOptions } from 'relay-limiter';
import { manualClock } from './limiters.js';

/** So many tokens and no more. */
export function few(burstLimit: number, options: RateLimiterOptions = {}): RateLimiter {
  return new RateLimiter({ rateLimit: 0.001, burstLimit, clock: manualClock(), ...options });
}

export function later(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Waits until something holds; the test's own time is the limit. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await later(5);
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

const FLOOD = 64 << 20;

/** How much of 64 MB the system takes in so many milliseconds, and the most memory that it took here. */
export async function flood(milliseconds: number, buffered: () => number, send: () => number) {
  const before = process.memoryUsage().arrayBuffers;
  const end = performance.now() + milliseconds;
  let sent = 0;
  let memory = 0;
  while (sent < FLOOD && performance.now() < end) {
    if (buffered() < 1 << 20) sent += send();
    else await later(1);
    memory = Math.max(memory, process.memoryUsage().arrayBuffers - before);
  }
  await later(10);
  return { taken: sent - buffered(), memory };
}
