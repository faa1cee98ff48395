// What the rules of a RuleLimiter say about one check, for the fields of an HTTP response: the rules that limit it, and
// what they have left. It is asked for each request, so the rules of a kind of check are listed once.

import { AT_COSTS, AT_USED, MAX_RULES, RULE_NUMBERS, type RulesCore } from '../engine/rules.js';
import type { RuleBook } from './compile.js';
import type { RuleContext } from './rule-context.js';
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
  /** The id by which an engine names it. */
  readonly id: number;
  /** The index of its unit. */
  readonly unitIndex: number;
}

/** What the rules say about a check. */
export interface Quotas {
  /** The rules that apply, without those on dry run. Checks of the same kind get the same array. */
  readonly rules: readonly QuotaRule[];
  /** The tokens left of each of these rules. */
  readonly left: readonly number[];
  /** The result of the same check at this moment. */
  readonly verdict: RuleVerdict;
  /** The index of the rule that would allow the fewest checks of the same cost; -1 if there is none. */
  readonly tightest: number;
  /** The same among the rules that count requests. */
  readonly tightestOfRequests: number;
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
  const call = context.prepare(keys, cost, action, plan);
  const { mask, program, listed } = call;
  if (listed !== undefined) {
    context.release(call);
    return undefined;
  }
  const answer = core.look(call.keys, mask, program, now);
  // From here to the end no code of the user runs, which could change RULE_NUMBERS.
  const rules = rulesOf(context, mask, program);
  const left = rules.map(({ burst, id }) => burst - (RULE_NUMBERS[AT_USED + id] as number));
  const tightest = tightestOf(rules, left, false);
  const isPlain = rules.every(isOfRequests);
  const tightestOfRequests = isPlain ? tightest : tightestOf(rules, left, true);
  const verdict = context.answerOf(answer);
  context.release(call);
  return { rules, left, verdict, tightest, tightestOfRequests };
}

/** All rules that are not on dry run, with the numbers of each plan. */
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

/** If the check costs nothing, the rules are compared for a cost of 1. */
function tightestOf(
  rules: readonly QuotaRule[],
  left: readonly number[],
  onlyRequests: boolean,
): number {
  const isFree = rules.every(({ unitIndex }) => costOf(unitIndex) === 0);
  let tightest = -1;
  let fewest = Infinity;
  for (let i = 0; i < rules.length; i += 1) {
    const rule = rules[i] as QuotaRule;
    if (onlyRequests && !isOfRequests(rule)) continue;
    const cost = isFree ? 1 : costOf(rule.unitIndex);
    const tokens = left[i] as number;
    // A rule in a unit that the check does not name refuses only while it is in debt.
    const checks = cost > 0 ? tokens / cost : tokens < 0 ? -Infinity : Infinity;
    if (tightest < 0 || checks < fewest) {
      tightest = i;
      fewest = checks;
    }
  }
  return tightest;
}

function isOfRequests({ unit }: QuotaRule): boolean {
  return unit === REQUESTS;
}
