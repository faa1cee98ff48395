// What the rules of a RuleLimiter say about one check, for the fields of an HTTP response: the rules that limit it, and
// what they have left. It is read for each request, so what depends on the rules alone is made once.

import { AT_COSTS, AT_USED, MAX_RULES, RULE_NUMBERS, type RulesCore } from '../engine/rules.js';
import type { RuleBook } from './compile.js';
import { KINDS_PER_PROGRAM, type LimiterContext } from './limiter-context.js';
import { REQUESTS } from './sections.js';
import type { Cost, Keys, RuleVerdict } from './types.js';

/** The part of a RuleLimiter that is read here. */
export interface QuotaLimiter {
  /** Without `look`, what the rules have left is known only after a check. */
  readonly core: { readonly look?: RulesCore['look'] };
  readonly context: LimiterContext;
  now?(): number | undefined;
  withRules?<Result>(call: () => Result): Result;
}

/** A rule that limits a check, with the numbers of the check's plan. */
export interface QuotaRule {
  readonly name: string;
  readonly unit: string;
  /** The index of its scope. */
  readonly scope: number;
  readonly burst: number;
  /** In tokens per second. */
  readonly rate: number;
  /** The id by which an engine names it. */
  readonly id: number;
  /** The index of its unit. */
  readonly unitIndex: number;
}

/** Checks with the same rules: those of one action and one plan that name the same scopes. */
export interface QuotaKind {
  /** The rules that apply, without those on dry run. */
  readonly rules: readonly QuotaRule[];
}

/** What the rules say about a check. */
export interface Quotas<Kind extends QuotaKind> {
  readonly kind: Kind;
  /** The tokens left of each rule. */
  readonly left: readonly number[];
  /** The index of the rule that would allow the fewest checks of the same cost; -1 without rules. */
  readonly tightest: number;
  /** The same among the rules that count requests. */
  readonly tightestOfRequests: number;
}

/** QuotaReader reads what the rules of a limiter say about checks. */
export class QuotaReader<Kind extends QuotaKind> {
  readonly #limiter: QuotaLimiter;
  readonly #kindOf: (rules: readonly QuotaRule[]) => Kind;
  /** The kinds by `LimiterContext.lastKind`, as of `#book`: an update makes a new book. */
  readonly #kinds = new Map<number, Kind>();
  #book: RuleBook | undefined;

  /** `kindOf` is called once for each kind of check, and again after an update. */
  constructor(limiter: QuotaLimiter, kindOf: (rules: readonly QuotaRule[]) => Kind) {
    this.#limiter = limiter;
    this.#kindOf = kindOf;
  }

  /** All rules that are not on dry run, with the numbers of each plan. */
  allRules(): QuotaRule[] {
    const { book, scopes } = this.#limiter.context;
    const plans = Array.from({ length: book.plan.plans }, (_, plan) => plan);
    return plans.flatMap((plan) => quotaRules(book, plan * scopes.length * MAX_RULES, () => true));
  }

  /**
   * Returns what the rules have left after an allowed check. Call it directly after a check that no list has decided, before
   * any other call of a RuleLimiter. O(rules).
   */
  afterCheck(): Quotas<Kind> {
    const kind = this.#lastKind();
    const { rules } = kind;
    const left: number[] = [];
    for (let i = 0; i < rules.length; i += 1) {
      const { burst, id } = rules[i] as QuotaRule;
      left.push(burst - (RULE_NUMBERS[AT_USED + id] as number));
    }
    const isFree = isFreeOf(rules);
    const tightest = tightestOf(rules, left, isFree, false);
    const isSame = tightest < 0 || isOfRequests(rules[tightest] as QuotaRule);
    const tightestOfRequests = isSame ? tightest : tightestOf(rules, left, isFree, true);
    return { kind, left, tightest, tightestOfRequests };
  }

  /**
   * Returns what the rules say at this moment, and the result of the same check; undefined if a list decides about it,
   * or it cannot be known at once. Changes and counts nothing. O(rules).
   * @throws the errors of `RuleLimiter.peek`
   */
  look(
    keys: Keys | string,
    cost?: Cost,
    action?: string,
    plan?: string,
  ): { readonly quotas: Quotas<Kind>; readonly verdict: RuleVerdict } | undefined {
    const look = () => this.#look(keys, cost, action, plan);
    return this.#limiter.withRules === undefined ? look() : this.#limiter.withRules(look);
  }

  #look(
    keys: Keys | string,
    cost: Cost | undefined,
    action: string | undefined,
    plan: string | undefined,
  ): { readonly quotas: Quotas<Kind>; readonly verdict: RuleVerdict } | undefined {
    const { context, core } = this.#limiter;
    if (core.look === undefined) return undefined;
    const now = this.#limiter.now?.();
    const call = context.prepare(keys, cost, action, plan);
    const { mask, program, listed } = call;
    if (listed !== undefined) {
      context.release(call);
      return undefined;
    }
    const answer = core.look(call.keys, mask, program, now);
    context.setKind(program, mask);
    const found = { quotas: this.afterCheck(), verdict: context.answerOf(answer) };
    context.release(call);
    return found;
  }

  #lastKind(): Kind {
    const { context } = this.#limiter;
    if (this.#book !== context.book) {
      this.#book = context.book;
      this.#kinds.clear();
    }
    const known = this.#kinds.get(context.lastKind);
    if (known !== undefined) return known;
    const kind = this.#kindOf(rulesOf(context));
    this.#kinds.set(context.lastKind, kind);
    return kind;
  }
}

/** The rules of the last kind of check. */
function rulesOf({ book, scopes, lastKind }: LimiterContext): readonly QuotaRule[] {
  const { plan } = book;
  const program = Math.floor(lastKind / KINDS_PER_PROGRAM);
  const mask = lastKind % KINDS_PER_PROGRAM;
  const first = Math.floor(program / plan.actions) * scopes.length * MAX_RULES;
  return quotaRules(book, first, (scope, slot) => {
    const applying = plan.applies[program * scopes.length + scope] as number;
    return ((mask >> scope) & (applying >> slot) & 1) === 1;
  });
}

/** `first`: the index of a plan's numbers. */
function quotaRules(
  { rules, unitIndexes, plan }: RuleBook,
  first: number,
  applies: (scope: number, slot: number) => boolean,
): QuotaRule[] {
  return rules
    .filter(({ spec, slot }) => !spec.dryRun && applies(spec.scope, slot))
    .map(({ spec: { name, unit, scope }, id }) => ({
      name,
      unit,
      scope,
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

/** Whether a check costs nothing; then the rules are compared for a cost of 1. */
function isFreeOf(rules: readonly QuotaRule[]): boolean {
  for (let i = 0; i < rules.length; i += 1) {
    if (costOf((rules[i] as QuotaRule).unitIndex) !== 0) return false;
  }
  return true;
}

function tightestOf(
  rules: readonly QuotaRule[],
  left: readonly number[],
  isFree: boolean,
  onlyRequests: boolean,
): number {
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
