// An average of what was seen lately, of which less and less is left while nothing is seen.

/** How much a new sample counts. */
const WEIGHT = 0.2;
export class FadingAverage {
  readonly #halfLifeSeconds: number;
  readonly #start: number | undefined;
  #value: number;
  #at = -Infinity;

  /**
   * @param halfLifeSeconds without a sample, half of what was seen is left after them
   * @param start what is assumed where nothing was seen lately; without it the first sample counts whole
   */
  constructor(halfLifeSeconds: number, start?: number) {
    this.#halfLifeSeconds = halfLifeSeconds;
    this.#start = start;
    this.#value = start ?? 0;
  }

  /** 0, and with time nearly 0, where nothing was seen. */
  value(now: number): number {
    return this.#value * this.#left(now);
  }

  add(sample: number, now: number): void {
    const left = this.#left(now);
    const before = left * this.#value + (1 - left) * (this.#start ?? sample);
    this.#value = before + WEIGHT * (sample - before);
    this.#at = now;
  }

  /** The share of what was seen that still counts. */
  #left(now: number): number {
    return 0.5 ** (Math.max(0, now - this.#at) / this.#halfLifeSeconds);
  }
}
