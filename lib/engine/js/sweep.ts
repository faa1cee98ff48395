// Sweep: visits every entry of some maps, in slices that a time budget cuts.

/** Visits one map; `visit` may delete what it is given, and says whether it did. */
export interface Pass {
  entries(): Iterator<[string, unknown]>;
  visit(key: string, value: unknown): boolean;
}

export function pass<T>(table: Map<string, T>, visit: (key: string, value: T) => boolean): Pass {
  return { entries: () => table.entries(), visit: visit as Pass['visit'] };
}

// Entries between two looks at the time: some microseconds of work.
const SLICE = 256;

export class Sweep {
  #pass = 0;
  #entries: Iterator<[string, unknown]> | undefined;

  /**
   * Runs the passes in order, and returns how many entries were removed. A call with a finite
   * budget goes on where the last such call stopped; one without starts afresh.
   */
  run(passes: readonly Pass[], budgetMs: number): number {
    const deadline = budgetMs === Infinity ? Infinity : performance.now() + budgetMs;
    if (deadline === Infinity) this.stop();
    let removed = 0;
    for (;;) {
      const current = passes[this.#pass];
      if (current === undefined) break;
      this.#entries ??= current.entries();
      for (let left = SLICE; left > 0; left -= 1) {
        const { done, value } = this.#entries.next();
        if (done) {
          this.#pass += 1;
          this.#entries = undefined;
          break;
        }
        if (current.visit(value[0], value[1])) removed += 1;
      }
      if (deadline !== Infinity && performance.now() >= deadline) break;
    }
    if (passes[this.#pass] === undefined) this.stop();
    return removed;
  }

  /** Forgets the place: the next run starts from the first pass. */
  stop(): void {
    this.#pass = 0;
    this.#entries = undefined;
  }
}
