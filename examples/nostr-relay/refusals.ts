// Counts refusals by kind, and prints them: one line for each kind in each second.

import type { RuleVerdict } from 'relay-limiter';

const WIDTHS = [-3, 9, 20, 11, -8];

export const HEADER = line(['sec', 'outcome', 'rule', 'scope', 'refused']);

export class Refusals {
  #counts = new Map<string, number>();
  #second = 0;

  readonly add = ({ outcome, rule, scope }: RuleVerdict): void => {
    const kind = JSON.stringify([outcome, rule ?? '-', scope ?? '-']);
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
  };

  /** Returns the lines of the second that has passed, most refusals first. */
  tick(): string[] {
    this.#second += 1;
    const kinds = [...this.#counts].sort(([, a], [, b]) => b - a);
    this.#counts = new Map();
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
