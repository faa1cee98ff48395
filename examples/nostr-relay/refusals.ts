// Counts refusals by kind, and prints them: one line for each kind in each second.

import type { RuleVerdict } from 'relay-limiter';

const WIDTHS = [-3, 9, 20, 11, -8];

export const HEADER = line(['sec', 'outcome', 'rule', 'scope', 'refused']);

export class Refusals {
  #counts = new Map<string, number>();
  #second = 0;

  readonly add = ({ outcome, rule, scope }: RuleVerdict): void => {
    this.merge([[JSON.stringify([outcome, rule ?? '-', scope ?? '-']), 1]]);
  };

  /** Returns the counts since the last call, by kind, for another process to merge. */
  take(): [kind: string, count: number][] {
    const counts = [...this.#counts];
    this.#counts = new Map();
    return counts;
  }

  /** Adds the counts of another process. */
  readonly merge = (counts: readonly [kind: string, count: number][]): void => {
    for (const [kind, count] of counts) {
      this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + count);
    }
  };

  /** Returns the lines of the second that has passed, most refusals first. */
  tick(): string[] {
    this.#second += 1;
    const kinds = this.take().sort(([, a], [, b]) => b - a);
    return kinds.map(([kind, count]) =>
      line([String(this.#second), ...JSON.parse(kind), count.toLocaleString('en-US')]),
    );
  }
}

/** Columns of a negative width are aligned to the right. */
function line(cells: readonly string[]): string {
  const padded = cells.map((cell, at) => {
    const width = WIDTHS[at] as number;
    return width < 0 ? cell.padStart(-width) : cell.padEnd(width);
  });
  return padded.join('  ').trimEnd();
}
