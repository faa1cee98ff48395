// ReplyClock: the clock of a limiter that decides both in calls of the user and in replies of the store. An exception of the
// user's clock reaches the caller of a call. A reply has no caller to throw to, so it goes on with the last known time.

import { type Clock, readClock } from '../../common/clock.js';

export class ReplyClock {
  readonly #clock: Clock;
  #last = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Reads the clock for a call. @throws `ERR_LIMITER_CLOCK`, or what the clock throws */
  read(): number {
    this.#last = readClock(this.#clock);
    return this.#last;
  }

  /** Reads the clock for a reply or a timer; the last known time if the clock fails. Never throws. */
  readInReply(): number {
    try {
      return this.read();
    } catch {
      return this.#last;
    }
  }
}
