// Counts that stop at 2^53 - 1, up to which both JavaScript and snapshots are exact, and sums of them.
// Twin of native/limiters/counts.h.

export const MOST_COUNT = Number.MAX_SAFE_INTEGER;

/** `count` and `more`, both at most MOST_COUNT, or MOST_COUNT where that is exceeded. */
export function saturatedSum(count: number, more: number): number {
  return more < MOST_COUNT - count ? count + more : MOST_COUNT;
}

/** The exact sum of any number of counts, in two digits of 2^53. */
export class Sum {
  #low = 0;
  #high = 0;

  /** The sum, or MOST_COUNT where it is larger. */
  get value(): number {
    return this.#high > 0 ? MOST_COUNT : this.#low;
  }

  add(count: number): void {
    if (count <= MOST_COUNT - this.#low) {
      this.#low += count;
    } else {
      this.#low -= MOST_COUNT - count + 1;
      this.#high += 1;
    }
  }

  /** `count` has been added before. */
  subtract(count: number): void {
    if (count <= this.#low) {
      this.#low -= count;
    } else {
      this.#low += MOST_COUNT - count + 1;
      this.#high -= 1;
    }
  }

  clear(): void {
    this.#low = 0;
    this.#high = 0;
  }
}
