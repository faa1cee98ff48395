// A request about the buckets of a check: what it asks of each rule, and the reply of the script `check`.

import { AT_COSTS, MAX_UNITS, RULE_NUMBERS, type RulePlan } from '../../engine/rules.js';
import type { RuleVerdict } from '../../rules/types.js';
import { Pending } from '../store/deadlines.js';
import { isNumeric } from '../store/replies.js';
import type { RuleId } from './rule-judge.js';

/** The arguments of a check, as the engine takes them. They do not change. */
export interface RuleQuestion {
  /** The keys by scope, or their digests. */
  readonly ids: readonly (string | undefined)[];
  /** A bit for each scope that has a key or is single. */
  readonly mask: number;
  readonly program: number;
  /** By unit. */
  readonly costs: readonly number[];
  /** What the numbers above mean: an update replaces it. */
  readonly plan: RulePlan;
  /** If given, it gets the used tokens by rule when the rules have decided. */
  readonly record?: UsedRecord | undefined;
}

/** Used tokens by rule, after a check. */
export interface UsedRecord {
  used: Float64Array | undefined;
}

/** A check that waits for the store. `onTimeout` decides it if its deadline passes first. */
export class PendingRuleCheck<Verdict> extends Pending {
  readonly question: RuleQuestion;
  readonly #resolve: (verdict: Verdict) => void;
  #known: Verdict | undefined;
  readonly #onTimeout: (check: PendingRuleCheck<Verdict>, wasBlocked: boolean) => Verdict;

  constructor(
    question: RuleQuestion,
    resolve: (verdict: Verdict) => void,
    onTimeout: (check: PendingRuleCheck<Verdict>, wasBlocked: boolean) => Verdict,
  ) {
    super();
    this.question = question;
    this.#resolve = resolve;
    this.#onTimeout = onTimeout;
  }

  answer(verdict: Verdict): void {
    if (this.end()) this.#resolve(verdict);
  }

  /** Answers with `verdict` if the deadline passes before `final` is there, which must not reject. */
  answerLater(verdict: Verdict, final: Promise<Verdict>): void {
    this.#known = verdict;
    void final.then((known) => this.answer(known));
  }

  override expire(wasBlocked: boolean): void {
    this.#resolve(this.#known ?? this.#onTimeout(this, wasBlocked));
  }
}

/** The verdict of the rules on a check. */
export interface Outcome {
  readonly verdict: RuleVerdict;
  /** Only for a violation that is sent to the store: the verdict after the store's answer, perhaps a ban. Never rejects. */
  readonly ifBanned?: Promise<RuleVerdict>;
}

/** What a request asks of one rule. */
export interface AskedRule {
  readonly rule: RuleId;
  readonly scope: number;
  readonly slot: number;
  readonly id: string;
  /** What the check takes. */
  readonly cost: number;
  /** The least that must be leased; what a later check needs. */
  readonly least: number;
  /** The tokens to lease ahead of use, at most. */
  readonly most: number;
  /** The number of the node's lease and what is left of it; `isReturned`: it goes back. */
  readonly known: number;
  readonly left: number;
  readonly isReturned: boolean;
}

/** The reply about one rule. */
export interface RuleReply {
  /** Tokens used before the check. */
  readonly used: number;
  readonly granted: number;
  readonly isCarried: boolean;
  /** Seconds that the lease lasts. */
  readonly lifetime: number;
}

/** Tokens that a check has taken from a lease before the store has answered about the other rules. */
export interface SpentRule {
  readonly scope: number;
  readonly slot: number;
  readonly id: string;
  readonly rule: RuleId;
  readonly cost: number;
  /** See `RuleLeases.generation`. */
  readonly generation: number;
  /** When the lease ends: until then the tokens may be spent. */
  readonly ends: number;
}

export interface CheckReply {
  readonly isAllowed: boolean;
  readonly rules: readonly RuleReply[];
}

/** Reads the reply of the script `check` about so many rules; undefined if it is invalid. */
export function readCheckReply(text: string, rules: number): CheckReply | undefined {
  const [verdict, ...words] = text.split(' ');
  if (verdict !== 'a' && verdict !== 'r') return undefined;
  if (words.length !== 4 * rules || !words.every(isNumeric)) return undefined;
  const replies: RuleReply[] = [];
  for (let at = 0; at < words.length; at += 4) {
    replies.push({
      used: Number(words[at]),
      granted: Number(words[at + 1]),
      isCarried: words[at + 2] === '1',
      lifetime: Number(words[at + 3]),
    });
  }
  return { isAllowed: verdict === 'a', rules: replies };
}

/** A check of a SharedRuleLimiter that waits. */
export type Check = PendingRuleCheck<RuleVerdict>;

/** A request in flight. */
export interface RuleRequest {
  readonly question: RuleQuestion;
  readonly rules: readonly AskedRule[];
  readonly spent: readonly SpentRule[];
  /** Rules on dry run that are known to refuse the check. */
  readonly refused: readonly RuleId[];
  readonly leaseId: number;
  readonly requestedAt: number;
  /** The check that it decides; undefined if it only leases. */
  readonly check: Check | undefined;
  /** Checks that wait for the tokens that it leases. */
  readonly waiting: Check[];
  /** Called once it and those that follow from it have ended, for keys that have left meanwhile. */
  readonly releases: (() => void)[];
}

/** The question of a check with its costs in RULE_NUMBERS. */
export function questionOf(
  ids: RuleQuestion['ids'],
  mask: number,
  program: number,
  plan: RulePlan,
  record?: UsedRecord,
): RuleQuestion {
  const costs = Array.from(RULE_NUMBERS.subarray(AT_COSTS, AT_COSTS + MAX_UNITS));
  return { ids: ids.slice(), mask, program, costs, plan, record };
}

/** Writes the costs of a question to RULE_NUMBERS. */
export function writeCosts(costs: readonly number[]): void {
  for (let at = 0; at < costs.length; at += 1) RULE_NUMBERS[AT_COSTS + at] = costs[at] as number;
}
