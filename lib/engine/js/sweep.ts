// Sweep visits whole tables in slices; a time budget limits each call. Counterpart of native/limiters/sweep.h.

/** Visits one table. `visit` may remove the entry it gets; it returns whether it has removed a peer. */
export interface Pass {
  readonly size: number;
  entries(): Iterator<[string, unknown]>;
  visit(key: string, value: unknown): boolean;
  /** Called after the last visit. */
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

// The number of entries between two reads of the clock: a few microseconds of work.
const SLICE = 64;

export class Sweep {
  #pass = 0;
  #entries: Iterator<[string, unknown]> | undefined;
  // The remaining visits of the pass: it visits as many entries as there were when it began. Without this bound, a
  // flood of new entries could keep one pass running forever, and the passes behind it would never begin.
  #left = 0;

  /**
   * Runs the passes in order, and returns the number of removed peers. A call with a finite budget
   * resumes where the last such call stopped; a call with an infinite budget starts at the first pass.
   */
  run(passes: readonly Pass[], budgetMs: number): number {
    const bounded = budgetMs !== Infinity;
    const deadline = bounded ? performance.now() + budgetMs : Infinity;
    if (!bounded) this.stop();
    let removed = 0;
    for (let current = passes[this.#pass]; current !== undefined; current = passes[this.#pass]) {
      removed += this.#slice(current);
      // An empty pass takes no time. If only such passes are left, the sweep is over.
      const isNextEmpty = this.#entries === undefined && passes[this.#pass]?.size === 0;
      if (bounded && !isNextEmpty && performance.now() >= deadline) break;
    }
    if (this.#pass >= passes.length) this.stop();
    return removed;
  }

  /** Whether the last run with a budget stopped before the end. */
  get isUnderway(): boolean {
    return this.#pass > 0 || this.#entries !== undefined;
  }

  /** Makes the next run start at the first pass. */
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
