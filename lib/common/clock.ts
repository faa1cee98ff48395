// Time as the limiters know it: monotonic seconds, one read a call.

import { invalidNumber } from './errors.js';

export type Clock = () => number;

/** The default clock where no native one is at hand. */
export const monotonicSeconds: Clock = clockOf(globalThis.process?.hrtime);

// In Node, hrtime() costs two thirds of performance.now(), once V8 has seen that its pair does not
// outlive the call. Looking it up at each call would cost the difference. Browsers have none.
function clockOf(hrtime: (() => [seconds: number, nanoseconds: number]) | undefined): Clock {
  if (hrtime === undefined) return () => performance.now() / 1000;
  return () => {
    const time = hrtime();
    return time[0] + time[1] / 1e9;
  };
}

/**
 * One read of a caller's clock. Throws `ERR_LIMITER_CLOCK` unless it is a finite number, before any
 * state has been touched; an exception of the clock itself passes through.
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

/** The same; undefined without a clock, where the engine reads its own. */
export function readOptionalClock(clock: Clock | undefined): number | undefined {
  return clock === undefined ? undefined : readClock(clock);
}
