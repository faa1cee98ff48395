// The clock of the limiters, in monotonic seconds. Each call of a limiter reads it once.

import { invalidNumber } from './errors.js';

export type Clock = () => number;

/** The default clock of the TypeScript engine. */
export const monotonicSeconds: Clock = clockOf(globalThis.process?.hrtime);

// In Node, hrtime() takes two thirds of the time of performance.now() after V8 has optimized away the pair that it
// returns. Looking up hrtime at each call would cost the difference. Browsers do not have it.
function clockOf(hrtime: (() => [seconds: number, nanoseconds: number]) | undefined): Clock {
  if (hrtime === undefined) return () => performance.now() / 1000;
  return () => {
    const time = hrtime();
    return time[0] + time[1] / 1e9;
  };
}

/** Beyond so many seconds a difference between two clocks is a pause, and not the time between two readings. */
const PAUSE_SECONDS = 0.02;

/**
 * Returns a clock that counts pauses which a monotonic clock may leave out: a machine that sleeps, a virtual machine that is
 * stopped. It runs on if the wall clock got ahead of the monotonic one since the last reading, so it also counts a wall
 * clock that is set forward. It never steps back. `wallSeconds`: tests replace it.
 */
export function countingPauses(clock: Clock, wallSeconds = () => Date.now() / 1000): Clock {
  let paused = 0;
  let wallAhead = Number.POSITIVE_INFINITY;
  return () => {
    const now = clock();
    const ahead = wallSeconds() - now;
    if (ahead - wallAhead > PAUSE_SECONDS) {
      paused += ahead - wallAhead;
      wallAhead = ahead;
    } else if (ahead < wallAhead) {
      wallAhead = ahead;
    }
    return now + paused;
  };
}

/**
 * Reads a user's clock once. @throws `ERR_LIMITER_CLOCK` unless the result is a finite number; call this before any
 * state changes. An exception that the clock throws passes through.
 */
export function readClock(clock: Clock): number {
  const now = clock();
  if (!Number.isFinite(now)) {
    throw invalidNumber(
      'ERR_LIMITER_CLOCK',
      'the time returned by clock()',
      now,
      'a finite number of seconds',
    );
  }
  return now;
}

/** The same; undefined without a clock, so that the engine reads its own. */
export function readOptionalClock(clock: Clock | undefined): number | undefined {
  return clock === undefined ? undefined : readClock(clock);
}
