// An average of what was seen lately, of which less and less is left while nothing is seen.

/** How much a new sample counts. */
const WEIGHT = 0.2;
/** Seconds without a sample after which half of it is left. */
const HALF_LIFE_SECONDS = 60;

export class FadingAverage {
  readonly #start: number | undefined;
  #value: number;
  #at = -Infinity;

  /** `start`: what is assumed where nothing was seen lately. Without one the first sample counts whole. */
  constructor(start?: number) {
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
    return 0.5 ** (Math.max(0, now - this.#at) / HALF_LIFE_SECONDS);
  }
}
