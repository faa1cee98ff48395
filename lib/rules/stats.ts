// Statistics of a RuleLimiter, by rule and by scope.

import type { RulesCore } from '../engine/rules.js';
import type { RuleContext } from './rule-context.js';
import type { ScopeSpec } from './sections.js';
import type { RuleCounts, RuleScopeStats, RuleStats } from './types.js';

export function statsOf(core: RulesCore, context: RuleContext, now: number | undefined): RuleStats {
  const { allowed, delayed, banned, checked, refused, dryRunRefused } = core.totals();
  const rules = context.book.rules.map(({ spec, id }): [string, RuleCounts] => [
    spec.name,
    {
      checked: checked[id] as number,
      refused: refused[id] as number,
      dryRunRefused: dryRunRefused[id] as number,
    },
  ]);
  const keyed = context.scopes.filter(({ kind }) => kind !== 'single');
  return {
    outcomes: {
      allow: allowed + context.listed.allow,
      delay: delayed,
      banned,
      denied: context.listed.denied,
    },
    rules: Object.fromEntries(rules),
    scopes: Object.fromEntries(keyed.map((scope) => [scope.name, scopeStats(core, scope, now)])),
  };
}

function scopeStats(
  core: RulesCore,
  { index }: ScopeSpec,
  now: number | undefined,
): RuleScopeStats {
  const { topViolators, ...counts } = core.statistics(index);
  return { ...counts, violators: topViolators, bans: core.longestBans(index, 0, now).count };
}
