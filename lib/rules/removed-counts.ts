// RemovedCounts remembers how often removed rules were asked and refused.

import type { RuleTotals } from '../engine/rules.js';
import type { RuleBook } from './compile.js';

/** Counts of rules that updates have removed, summed by scope: totals of a scope never decrease. */
export class RemovedCounts {
  readonly checked: number[];
  readonly refused: number[];

  constructor(scopes: number) {
    this.checked = new Array(scopes).fill(0);
    this.refused = new Array(scopes).fill(0);
  }

  /** Adds the rules that an update removes. `totals` is from before the update. */
  add(before: RuleBook, after: RuleBook, totals: RuleTotals): void {
    for (const { spec, id } of before.rules) {
      // A rule that stays keeps its id.
      if (after.ruleAt[id]?.spec.name === spec.name) continue;
      (this.checked[spec.scope] as number) += totals.checked[id] as number;
      (this.refused[spec.scope] as number) += totals.refused[id] as number;
    }
  }
}
