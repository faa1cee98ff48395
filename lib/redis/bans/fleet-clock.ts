// The fleet's clock: the time by which all processes date bans and lifts. The store keeps it, as its own clock plus a
// shift. Whoever knows it sees to it that it goes on evenly, so bans neither end early nor late when the store's clock is
// set: a process says which time it is at least, and corrects the shift when the store's time jumped ahead.

import { nowSeconds, nowWithPauses } from '../store/timing.js';

/** Clocks run apart by less. */
const MAX_DRIFT = 0.001;
/** More is a jump of the store's clock. */
const JUMP_SECONDS = 0.5;

/** A time of the fleet's clock, and when it was read by this process's clocks. */
interface Reading {
  readonly time: number;
  /** The shift of the store's clock, as the store writes it. */
  readonly shift: string;
  /** By `nowWithPauses`: before the store read its clock. */
  readonly askedAt: number;
  /** By `nowSeconds`: after that. */
  readonly answeredAt: number;
}

export class FleetClock {
  #reading: Reading | undefined;

  /**
   * The time, never ahead of the store's; a monotonic time of this process's before the first reading. A machine that has
   * slept is behind until the next reading.
   */
  now(): number {
    return this.#reading === undefined ? nowSeconds() : this.#least(this.#reading);
  }

  /** The time that it is at least; 0 before the first reading. */
  least(): number {
    return this.#reading === undefined ? 0 : this.#least(this.#reading);
  }

  /** The shift for which that is so. */
  get shift(): string {
    return this.#reading?.shift ?? '0';
  }

  /** Seconds by which a time read now has certainly jumped ahead since the last reading; 0 if it has not. */
  jumpOf(time: number): number {
    if (this.#reading === undefined) return 0;
    const { time: last, askedAt } = this.#reading;
    const jump = time - last - (nowWithPauses() - askedAt) * (1 + MAX_DRIFT);
    return jump > JUMP_SECONDS ? jump : 0;
  }

  /** Takes a reading. Returns by how much times change that were taken before the first one. */
  read(time: number, shift: string, askedAt: number): number {
    const correction = this.#reading === undefined ? time - nowSeconds() : 0;
    this.#reading = { time, shift, askedAt, answeredAt: nowSeconds() };
    return correction;
  }

  #least({ time, answeredAt }: Reading): number {
    return time + (nowSeconds() - answeredAt) * (1 - MAX_DRIFT);
  }
}
