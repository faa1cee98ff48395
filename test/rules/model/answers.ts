// The rules that a check of the model asks, and the results that it writes.

import {
  AT_DELAY,
  AT_RULE,
  AT_SCOPE,
  AT_WARNING,
  MAX_RULES,
  MAX_USED,
  RULE_NUMBERS,
  RULE_WARNED,
  type RuleAnswer,
} from '../../../dist/engine/rules.js';
import type { Peer } from './rates.js';
import type { ModelScope } from './scope.js';

/** A rule that applies to a check, with its numbers in the plan that asks, and what it answers. */
export interface Rule {
  /** In results and totals. */
  index: number;
  slot: number;
  isDryRun: boolean;
  countsViolation: boolean;
  rank: number;
  cost: number;
  burst: number;
  warnBelow: number;
  allows: boolean;
  /** The seconds until it would allow. */
  delay: number;
}

/** A scope with applying rules in a check, and its refilled peer. */
export interface Asked {
  scope: ModelScope;
  peer: Peer;
  rules: Rule[];
}

export function copyOf(peer: Peer): Peer {
  return { ...peer, used: [...peer.used] };
}

export function rulesOf(asked: Asked[]): Rule[] {
  return asked.flatMap(({ rules }) => rules);
}

/** The rules that refuse, without those on dry run. */
export function refusalsOf(asked: Asked[]): Rule[] {
  return rulesOf(asked).filter(({ isDryRun, allows }) => !isDryRun && !allows);
}

export function rounded(delay: number): number {
  const scaled = delay * 2 ** 20;
  return Number.isFinite(scaled) ? (Math.ceil(scaled) + 1) / 2 ** 20 : delay;
}

export function longestOf(refusals: Rule[]): Rule {
  return refusals.reduce((a, b) => {
    return b.delay > a.delay || (b.delay === a.delay && b.rank < a.rank) ? b : a;
  });
}

export function answerDelay(refusals: Rule[]): void {
  const { index, delay } = longestOf(refusals);
  write({ [AT_DELAY]: delay, [AT_RULE]: index, [AT_SCOPE]: Math.floor(index / MAX_RULES) });
}

/** The answer of an allowed check, after all costs were taken. */
export function answerWarning(asked: Asked[]): RuleAnswer | undefined {
  const warnings = asked.flatMap(({ peer, rules }) =>
    rules
      .filter(({ isDryRun }) => !isDryRun)
      .map((rule) => ({
        rule,
        share: (rule.burst - (peer.used[rule.slot] as number)) / rule.burst,
      }))
      .filter(({ rule, share }) => share < rule.warnBelow),
  );
  warnings.sort((a, b) => a.share - b.share || a.rule.rank - b.rule.rank);
  const [first] = warnings;
  if (first === undefined) return undefined;
  write({ [AT_DELAY]: 0, [AT_RULE]: -1, [AT_SCOPE]: -1, [AT_WARNING]: first.rule.index });
  return RULE_WARNED;
}

export function take(peer: Peer, rules: Rule[]): void {
  for (const { slot, cost } of rules) {
    const sum = (peer.used[slot] as number) + cost;
    peer.used[slot] = sum < MAX_USED ? sum : MAX_USED;
  }
}

export function count(counts: Float64Array, index: number): void {
  counts[index] = (counts[index] as number) + 1;
}

export function write(results: Record<number, number>): void {
  for (const [index, result] of Object.entries(results)) RULE_NUMBERS[Number(index)] = result;
}
