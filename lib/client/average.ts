// An average of what was seen lately, of which less and less is left while nothing is seen.

/** How much a new sample counts. */
const WEIGHT = 0.2;
/** Seconds without a sample after which half of it is left. */
const HALF_LIFE_SECONDS = 60;

export class FadingAverage {
  #value: number | undefined;
  #at = 0;

  /** `start`: what samples are averaged with from the first on. Without one the first counts whole. */
  constructor(start?: number) {
    this.#value = start;
  }

  /** undefined where nothing was seen. */
  value(now: number): number | undefined {
    if (this.#value === undefined) return undefined;
    return this.#value * 0.5 ** (Math.max(0, now - this.#at) / HALF_LIFE_SECONDS);
  }

  add(sample: number, now: number): void {
    const value = this.value(now);
    this.#value = value === undefined ? sample : value + WEIGHT * (sample - value);
    this.#at = now;
  }
}
