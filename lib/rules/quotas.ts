// What the rules of a RuleLimiter say about one check, for the fields of an HTTP response: the rules that limit it, and
// what they have left. It is asked for each request, so the rules of a kind of check are listed once.

import { AT_COSTS, MAX_RULES, RULE_NUMBERS, type RulesCore } from '../engine/rules.js';
import type { RuleBook } from './compile.js';
import type { RuleContext } from './rule-context.js';
import { ON_ALLOW_LIST } from './scope-keys.js';
import { REQUESTS } from './sections.js';
import type { Cost, Keys, RuleVerdict } from './types.js';

/** The part of a RuleLimiter that is read here. */
interface Limiter {
  readonly core: RulesCore;
  readonly context: RuleContext;
  now(): number | undefined;
}

/** A rule that limits a check, with the numbers of the check's plan. */
export interface QuotaRule {
  readonly name: string;
  readonly unit: string;
  readonly burst: number;
  /** In tokens per second. */
  readonly rate: number;
  /** The index of its used tokens. */
  readonly id: number;
  /** The index of its unit. */
  readonly unitIndex: number;
}

/** What the rules say about a check. */
export interface Quotas {
  /** The rules that apply, without those on dry run. Checks of the same kind get the same array. */
  readonly rules: readonly QuotaRule[];
  /** The used tokens, by the id of a rule. */
  readonly used: Float64Array;
  /** The result of the same check at this moment. */
  readonly verdict: RuleVerdict;
  /** The rule that would allow the fewest checks of the same cost, and the one among those of requests. */
  readonly tightest: QuotaRule | undefined;
  readonly tightestOfRequests: QuotaRule | undefined;
}

/**
 * Returns what the rules say about a check at this moment; undefined if a list decides about it. Changes and counts
 * nothing. O(rules).
 * @throws the errors of `RuleLimiter.peek`
 */
export function quotasOf(
  limiter: Limiter,
  keys: Keys | string,
  cost?: Cost,
  action?: string,
  plan?: string,
): Quotas | undefined {
  const now = limiter.now();
  const { context, core } = limiter;
  context.prepare(keys, cost, action, plan);
  const { keys: own, mask, program, listed } = context;
  if (listed !== undefined) {
    own.forget();
    return undefined;
  }
  const { answer, used } = core.peek(own.keys, mask, program, now);
  const verdict = context.answerOf(answer);
  own.forget();
  const rules = rulesOf(context, mask, program);
  const isFree = rules.every(({ unitIndex }) => costOf(unitIndex) === 0);
  const tightest = (of: readonly QuotaRule[]) => tightestOf(of, used, isFree);
  return {
    rules,
    used,
    verdict,
    tightest: tightest(rules),
    tightestOfRequests: tightest(rules.filter(({ unit }) => unit === REQUESTS)),
  };
}

/** Whether the last check was allowed by a list. Call it right after a check. */
export function wasAllowListed({ context }: Limiter): boolean {
  return context.listed === ON_ALLOW_LIST;
}

/** The names of all rules that are not on dry run, in all plans, with their numbers. */
export function allQuotaRules({ context: { book, scopes } }: Limiter): QuotaRule[] {
  const plans = Array.from({ length: book.plan.plans }, (_, plan) => plan);
  return plans.flatMap((plan) => quotaRules(book, plan * scopes.length * MAX_RULES, () => true));
}

/** For each book, the rules of each kind of check: by its program and the scopes that it names. */
const RULES = new WeakMap<RuleBook, Map<number, readonly QuotaRule[]>>();

function rulesOf(
  { book, scopes }: RuleContext,
  mask: number,
  program: number,
): readonly QuotaRule[] {
  let byKind = RULES.get(book);
  if (byKind === undefined) {
    byKind = new Map();
    RULES.set(book, byKind);
  }
  // There are at most eight scopes.
  const kind = program * 256 + mask;
  const known = byKind.get(kind);
  if (known !== undefined) return known;
  const { plan } = book;
  const first = Math.floor(program / plan.actions) * scopes.length * MAX_RULES;
  const rules = quotaRules(book, first, (scope, slot) => {
    const applying = plan.applies[program * scopes.length + scope] as number;
    return ((mask >> scope) & (applying >> slot) & 1) === 1;
  });
  byKind.set(kind, rules);
  return rules;
}

/** `first`: the index of a plan's numbers. */
function quotaRules(
  { rules, unitIndexes, plan }: RuleBook,
  first: number,
  applies: (scope: number, slot: number) => boolean,
): QuotaRule[] {
  return rules
    .filter(({ spec, slot }) => !spec.dryRun && applies(spec.scope, slot))
    .map(({ spec: { name, unit }, id }) => ({
      name,
      unit,
      burst: plan.bursts[first + id] as number,
      rate: plan.rates[first + id] as number,
      id,
      unitIndex: unitIndexes.get(unit) as number,
    }));
}

/** The cost of the last call in a unit. */
function costOf(unitIndex: number): number {
  return RULE_NUMBERS[AT_COSTS + unitIndex] as number;
}

/** `isFree`: whether the check costs nothing. Then each rule is compared for a cost of 1. */
function tightestOf(
  rules: readonly QuotaRule[],
  used: Float64Array,
  isFree: boolean,
): QuotaRule | undefined {
  let tightest: QuotaRule | undefined;
  let fewest = Infinity;
  for (const rule of rules) {
    const cost = isFree ? 1 : costOf(rule.unitIndex);
    const left = rule.burst - (used[rule.id] as number);
    // A rule in a unit that the check does not name refuses only while it is in debt.
    const checks = cost > 0 ? left / cost : left < 0 ? -Infinity : Infinity;
    if (tightest === undefined || checks < fewest) {
      tightest = rule;
      fewest = checks;
    }
  }
  return tightest;
}
