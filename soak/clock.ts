// A virtual clock that only the soak moves. It can be made to fail on its next reading.

import type { Random } from '../test/support/random.js';

export class ClockFault extends Error {}

export class VirtualClock {
  /** Seconds. */
  now: number;
  /** Replaces the next reading; it may throw, and it may change the limiter. */
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

  /** Usually leaves the time unchanged or adds a fraction of a second; sometimes jumps back, or ahead by up to a year. */
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
