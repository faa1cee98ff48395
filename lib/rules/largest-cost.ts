// The largest cost that a check can have: what a server need not receive to the end, since no rule would allow it.

import { MAX_RULES } from '../engine/rules.js';
import type { RuleBook } from './compile.js';
import type { ScopeSpec } from './sections.js';

/**
 * The largest cost of a unit that a check can be allowed, whatever its plan; Infinity without a bound. `action`: that of
 * the check, undefined if it may have any. `named`: the scopes that every such check names; single scopes, and
 * scopes derived from the named ones, are checked too. Infinity with an allow list, since its keys have no limit.
 */
export function largestCost(
  { rules, plan, actionIndexes, sections }: RuleBook,
  scopes: readonly ScopeSpec[],
  unit: string,
  action: string | undefined,
  named: readonly string[],
): number {
  if (sections.allow.some((list) => list !== undefined)) return Infinity;
  const isAsked = ({ kind, name, from }: ScopeSpec) =>
    kind === 'single' || named.includes(kind === 'derived' ? (scopes[from]?.name ?? '') : name);
  const asked = rules.filter(
    ({ spec }) => spec.unit === unit && !spec.dryRun && isAsked(scopes[spec.scope] as ScopeSpec),
  );
  const burstsIn = (planIndex: number, actionIndex: number) =>
    asked.map(({ spec: { scope }, slot, id }) => {
      const applies =
        plan.applies[(planIndex * plan.actions + actionIndex) * scopes.length + scope];
      const burst = plan.bursts[planIndex * scopes.length * MAX_RULES + id];
      return ((applies as number) >> slot) & 1 ? (burst as number) : Infinity;
    });
  const actions =
    action === undefined
      ? [...new Set([0, ...actionIndexes.values()])]
      : [actionIndexes.get(action) ?? 0];
  const bounds = [...Array(plan.plans).keys()].flatMap((planIndex) =>
    actions.map((actionIndex) => Math.min(Infinity, ...burstsIn(planIndex, actionIndex))),
  );
  return Math.max(...bounds);
}
