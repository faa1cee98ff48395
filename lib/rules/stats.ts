// Statistics of a RuleLimiter, by rule and by scope.

import type { LimiterTotals } from '../common/types.js';
import { MAX_RULES, type RulesCore, type RuleTotals } from '../engine/rules.js';
import type { RuleBook } from './compile.js';
import type { LimiterContext } from './limiter-context.js';
import type { ScopeSpec } from './sections.js';
import type { RuleCounts, RuleScopeStats, RuleState, RuleStats } from './types.js';

export function statsOf(
  core: Pick<RulesCore, 'totals' | 'statistics' | 'longestBans'>,
  context: LimiterContext,
  now: number | undefined,
): RuleStats {
  const totals = core.totals();
  const { allowed, delayed, banned, checked, refused, dryRunRefused } = totals;
  const { book, scopes, listedCounts: listed } = context;
  const rules = book.rules.map(({ spec, id }): [string, RuleCounts] => [
    spec.name,
    {
      scope: (scopes[spec.scope] as ScopeSpec).name,
      checked: checked[id] as number,
      refused: refused[id] as number,
      dryRunRefused: dryRunRefused[id] as number,
    },
  ]);
  const scopeStats = ({ index }: ScopeSpec): RuleScopeStats => {
    const { topViolators, ...counts } = core.statistics(index);
    const verdicts = scopeVerdicts(index, totals, counts.bansBegun);
    const bans = core.longestBans(index, 0, now).count;
    return { ...counts, verdicts, violators: topViolators, bans };
  };
  const keyed = scopes.filter(({ kind }) => kind !== 'single');
  return {
    outcomes: {
      allow: allowed + (totals.listedAllowed ?? listed.allow),
      delay: delayed,
      banned,
      denied: totals.listedDenied ?? listed.denied,
    },
    rules: Object.fromEntries(rules),
    scopes: Object.fromEntries(keyed.map((scope) => [scope.name, scopeStats(scope)])),
  };
}

/** What the rules of a scope have answered so far; see `RuleScopeStats.verdicts`. */
export function scopeVerdicts(
  scope: number,
  { checked, refused, replacedChecked, replacedRefused }: RuleTotals,
  bansBegun: number,
): LimiterTotals['verdicts'] {
  let asked = replacedChecked[scope] as number;
  let refusals = replacedRefused[scope] as number;
  // A slot without a rule has the counts of the rule that it had.
  for (let id = scope * MAX_RULES; id < (scope + 1) * MAX_RULES; id += 1) {
    asked += checked[id] as number;
    refusals += refused[id] as number;
  }
  return { allow: asked - refusals, delay: refusals - bansBegun, disconnect: bansBegun };
}

/** The state of each rule that applies to a check, in the order of declaration. `used` is by id. */
export function statesOf(
  { book, scopes }: LimiterContext,
  mask: number,
  program: number,
  used: Float64Array,
): RuleState[] {
  const { rules, plan } = book;
  const first = Math.floor(program / plan.actions) * scopes.length * MAX_RULES;
  const applies = ({ spec: { scope }, slot }: RuleBook['rules'][number]) =>
    (mask >> scope) & ((plan.applies[program * scopes.length + scope] as number) >> slot) & 1;
  return rules.filter(applies).map(({ spec, id }) => {
    const limit = plan.bursts[first + id] as number;
    const taken = used[id] as number;
    return {
      rule: spec.name,
      scope: (scopes[spec.scope] as ScopeSpec).name,
      unit: spec.unit,
      limit,
      remaining: limit - taken,
      resetSeconds: taken / (plan.rates[first + id] as number),
    };
  });
}
