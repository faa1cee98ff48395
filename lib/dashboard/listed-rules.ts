// The table of rules: which rule refuses how much.

import type { RuleCounts } from '../rules/types.js';
import type { ListedRule } from './messages.js';
import { type Reading, type Shown, scopeTitle } from './shown.js';

/** The maximum number of rules that are sent. */
const MAX_RULES = 200;

/**
 * Lists the rules that refuse, most refusals first, then the others in the order of declaration. `previous` are the
 * readings `seconds` before these.
 */
export function listedRules(
  shown: readonly Shown[],
  readings: readonly Reading[],
  previous: readonly Reading[],
  seconds: number,
): ListedRule[] {
  const listed = readings.flatMap((reading, whole) => {
    const before = previous[whole]?.stats?.rules;
    return Object.entries(reading?.stats?.rules ?? {}).map(([rule, counts]): ListedRule => {
      const { scope, refused, dryRunRefused } = counts;
      const grown = before === undefined ? 0 : growth(counts, before[rule]);
      return {
        rule,
        scope: scopeTitle(shown[whole]?.name ?? '', scope),
        whole,
        perSecond: Math.round((grown / seconds) * 10) / 10,
        refused,
        dryRunRefused,
      };
    });
  });
  listed.sort((a, b) => b.refused - a.refused || b.dryRunRefused - a.dryRunRefused);
  return listed.slice(0, MAX_RULES);
}

/** The refusals since `before`, on dry run too. A rule that an update has added counts from 0. */
function growth(now: RuleCounts, before: RuleCounts | undefined): number {
  const all = now.refused + now.dryRunRefused;
  const known =
    before === undefined || before.scope !== now.scope ? 0 : before.refused + before.dryRunRefused;
  return all < known ? all : all - known;
}
