// A clock that only the soak moves, and that fails when it is told to.

import type { Random } from '../test/support/random.js';

export class ClockFault extends Error {}

export class VirtualClock {
  /** Seconds. */
  now: number;
  /** What the next reading does instead of telling the time; it may also change the limiter. */
  #next: (() => number) | undefined;

  constructor(start: number) {
    this.now = start;
  }

  readonly read = (): number => {
    const next = this.#next;
    this.#next = undefined;
    return next === undefined ? this.now : next();
  };

  failOnce(read: () => number): void {
    this.#next = read;
  }

  /** Mostly stands still or ticks; now and then it jumps, also back, also a year on. */
  move(random: Random): void {
    const dice = random();
    if (dice < 0.15) this.now += random() * 0.1;
    else if (dice < 0.16) this.now += random() * 20;
    else if (dice < 0.1602) this.now += random() * 4000;
    else if (dice < 0.1606) this.now -= random() * 100;
    else if (dice < 0.16062) this.now += 28 * 86_400;
    else if (dice < 0.160625) this.now += 365 * 86_400;
  }
}
