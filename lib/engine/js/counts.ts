// Counts of violations, and sums of them. A count stops at 2^53 - 1, the largest integer up to which numbers are exact
// in JavaScript and in snapshots. Counterpart of native/limiters/counts.h.

export const MOST_COUNT = Number.MAX_SAFE_INTEGER;

/** Adds two numbers of at most MOST_COUNT; the result is at most MOST_COUNT too. */
export function saturatedSum(count: number, more: number): number {
  return more < MOST_COUNT - count ? count + more : MOST_COUNT;
}

/** The exact sum of any number of counts, stored as two digits in base 2^53. */
export class Sum {
  #low = 0;
  #high = 0;

  /** The sum, or MOST_COUNT if the sum is larger. */
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

  /** Subtracts a part of what was added before. */
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
