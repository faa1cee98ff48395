// The times at which a table may have evicted a record, reduced to those that later queries need.

/** A list of times that returns the latest time noted since a mark. */
export class EvictionTimes {
  #count = 0;
  // Times in decreasing order: an entry matters only if no later entry has a later time.
  readonly #falling: { index: number; at: number }[] = [];

  /** The current mark. `latestSince(mark)` considers only times noted after it. */
  get mark(): number {
    return this.#count;
  }

  note(at: number): void {
    while ((this.#falling.at(-1)?.at ?? Infinity) <= at) this.#falling.pop();
    this.#falling.push({ index: this.#count, at });
    this.#count += 1;
  }

  /** Returns the latest time noted since the mark, or undefined if none was noted. */
  latestSince(mark: number): number | undefined {
    if (mark === this.#count) return undefined;
    return this.#falling.find(({ index }) => index >= mark)?.at;
  }
}
