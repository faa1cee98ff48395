// An exponentially weighted moving average. It decays between samples, so that old samples lose their weight
// even if no new ones come.

/** The weight of a new sample. */
const WEIGHT = 0.2;

export class DecayingAverage {
  readonly #halfLifeSeconds: number;
  readonly #initial: number | undefined;
  #value: number;
  #updatedAt = -Infinity;

  /**
   * @param halfLifeSeconds seconds without a sample after which half of the value remains
   * @param initial the value that `add` assumes before the first sample and after a long time without one;
   * if it is omitted, such a sample counts in full
   */
  constructor(halfLifeSeconds: number, initial?: number) {
    this.#halfLifeSeconds = halfLifeSeconds;
    this.#initial = initial;
    this.#value = initial ?? 0;
  }

  /** Returns the average, 0 before the first sample. Without samples it approaches 0. */
  value(now: number): number {
    return this.#value * this.#remainingShare(now);
  }

  /** The average at the time of the last sample, before any decay. */
  get last(): number {
    return this.#value;
  }

  add(sample: number, now: number): void {
    const share = this.#remainingShare(now);
    const previous = share * this.#value + (1 - share) * (this.#initial ?? sample);
    this.#value = previous + WEIGHT * (sample - previous);
    this.#updatedAt = now;
  }

  /** Returns the share of the value that has not decayed since the last sample. */
  #remainingShare(now: number): number {
    return 0.5 ** (Math.max(0, now - this.#updatedAt) / this.#halfLifeSeconds);
  }
}
