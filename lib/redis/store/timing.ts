// Time and timers of the store's side. Deadlines and the store's time are measured by `performance.now()`, whatever
// clock a limiter or its bans have.

import { countingPauses } from '../../common/clock.js';
import { detached } from '../../common/timers.js';

/** Seconds until the store is tried again while it is down, and until a caller may usefully repeat a check. */
export const RETRY_SECONDS = 0.25;

/** A call is executed at most this long after its deadline, rounded down to a whole second of the store's clock. */
export const LATE_SECONDS = 1.5;

/** Monotonic seconds. */
export function nowSeconds(): number {
  return performance.now() / 1000;
}

/** The same, with pauses of the machine: the store's time goes on in them. */
export const nowWithPauses = countingPauses(nowSeconds);

export type Timer = ReturnType<typeof setTimeout>;

/** Starts a timer outside of any caller's async context. It does not keep the process alive. */
export function startTimer(act: () => void, milliseconds: number): Timer {
  const timer = detached(() => setTimeout(act, milliseconds));
  timer.unref?.();
  return timer;
}
