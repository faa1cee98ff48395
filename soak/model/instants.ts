// When records may have been given up, as far as anybody needs to know later.

/** A list of instants that tells the latest one since a mark. */
export class Instants {
  #count = 0;
  // Of two instants the earlier noted matters only where it is later in time: so these fall.
  readonly #falling: { index: number; at: number }[] = [];

  /** The mark of now: `latestSince` it counts what is noted from here on. */
  get mark(): number {
    return this.#count;
  }

  note(at: number): void {
    while ((this.#falling.at(-1)?.at ?? Infinity) <= at) this.#falling.pop();
    this.#falling.push({ index: this.#count, at });
    this.#count += 1;
  }

  /** The latest instant noted since the mark; undefined: none was. */
  latestSince(mark: number): number | undefined {
    if (mark === this.#count) return undefined;
    return this.#falling.find(({ index }) => index >= mark)?.at;
  }
}
