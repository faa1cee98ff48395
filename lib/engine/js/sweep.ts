// Sweep: visits every entry of some maps, in slices that a time budget cuts.

/** Visits one map; `visit` may delete what it is given, and says whether it did. */
export interface Pass {
  readonly size: number;
  entries(): Iterator<[string, unknown]>;
  visit(key: string, value: unknown): boolean;
  /** After the last visit. */
  end?(): void;
}

interface Table<T> {
  readonly size: number;
  entries(): Iterator<[string, T]>;
}

export function pass<T>(table: Table<T>, visit: (key: string, value: T) => boolean): Pass {
  return {
    size: table.size,
    entries: () => table.entries(),
    visit: visit as Pass['visit'],
  };
}

// Entries between two looks at the time: a few microseconds of work.
const SLICE = 64;

export class Sweep {
  #pass = 0;
  #entries: Iterator<[string, unknown]> | undefined;
  // How many entries the pass has to go: those that were there when it began. Without a bound it
  // would follow a flood of newcomers for ever, and the passes behind it would never have their turn.
  #left = 0;

  /**
   * Runs the passes in order, and returns how many entries were removed. A call with a finite
   * budget goes on where the last such call stopped; one without starts afresh.
   */
  run(passes: readonly Pass[], budgetMs: number): number {
    const bounded = budgetMs !== Infinity;
    const deadline = bounded ? performance.now() + budgetMs : Infinity;
    if (!bounded) this.stop();
    let removed = 0;
    for (let current = passes[this.#pass]; current !== undefined; current = passes[this.#pass]) {
      removed += this.#slice(current);
      if (bounded && performance.now() >= deadline) break;
    }
    if (this.#pass >= passes.length) this.stop();
    return removed;
  }

  /** Whether the last run with a budget stopped before its end. */
  get isUnderway(): boolean {
    return this.#pass > 0 || this.#entries !== undefined;
  }

  /** Forgets the place: the next run starts from the first pass. */
  stop(): void {
    this.#pass = 0;
    this.#entries = undefined;
  }

  #slice(current: Pass): number {
    if (this.#entries === undefined) {
      this.#entries = current.entries();
      this.#left = current.size;
    }
    let removed = 0;
    for (let n = 0; n < SLICE && this.#left > 0; n += 1) {
      const { done, value } = this.#entries.next();
      if (done) {
        this.#left = 0;
        break;
      }
      this.#left -= 1;
      if (current.visit(value[0], value[1])) removed += 1;
    }
    if (this.#left === 0) {
      current.end?.();
      this.#pass += 1;
      this.#entries = undefined;
    }
    return removed;
  }
}
