// Results of cores as plain values that can be compared.

import {
  AT_BAN_RULE,
  AT_BAN_SECONDS,
  AT_BEGUN,
  AT_DELAY,
  AT_RULE,
  AT_SCOPE,
  AT_VIOLATIONS,
  AT_WARNING,
  MAX_SCOPES,
  RULE_BANNED,
  RULE_DIGEST_NUMBERS,
  RULE_NUMBERS,
  RULE_OFFENDER_NUMBERS,
  RULE_WARNED,
  type RuleAnswer,
  type RuleDigestColumns,
  type RuleOffenderColumns,
  type RulesCore,
} from '../../dist/engine/rules.js';
import type { BuiltPlan } from './plans.js';

export interface SavedScope {
  offenders: RuleOffenderColumns[];
  digests: RuleDigestColumns[];
  single?: Float64Array;
}

/** The state of all scopes. */
export function saveAll(core: RulesCore, { scopes, spec }: BuiltPlan, now: number): SavedScope[] {
  return scopes.map((name, scope) => {
    const saved: SavedScope = { offenders: [], digests: [] };
    if (spec.scopes[name] === true) {
      return { ...saved, single: core.saveSingle(scope, now) };
    }
    for (const { offenders, digests } of core.snapshot(scope, 100, () => now)) {
      if (offenders.keys.length > 0) saved.offenders.push(offenders);
      if (digests.digests.length > 0) saved.digests.push(digests);
    }
    return saved;
  });
}

/** What engines have in common: digests have a secret and an order of their own. */
export function plainScope({ offenders, digests, single }: SavedScope, scope = 0): unknown {
  const named = offenders.flatMap(({ keys, numbers }) =>
    keys.map((key, i) => [key, ...rowOf(numbers, i, RULE_OFFENDER_NUMBERS)]),
  );
  const others = digests.flatMap(({ digests, numbers }) =>
    Array.from({ length: digests.length / 4 }, (_, i) =>
      rowOf(numbers, i, RULE_DIGEST_NUMBERS).join(),
    ),
  );
  // The order of those without violations is not specified to the last.
  const isViolator = ([, violations]: (string | number)[]) => violations !== 0;
  return [
    scope,
    single,
    named.filter(isViolator),
    named
      .filter((row) => !isViolator(row))
      .map((row) => row.join())
      .sort(),
    others.sort(),
  ];
}

function rowOf(numbers: Float64Array, i: number, width: number): number[] {
  return [...numbers.subarray(i * width, (i + 1) * width)];
}

/** The answer of a check and all results that belong to it. */
export function answer(result: RuleAnswer | undefined): unknown {
  if (result === undefined) return undefined;
  const at = [AT_DELAY, AT_RULE, AT_SCOPE];
  if (result === RULE_WARNED) at.push(AT_WARNING);
  if (result === RULE_BANNED) at.push(AT_BEGUN);
  const begun = result === RULE_BANNED ? (RULE_NUMBERS[AT_BEGUN] as number) : 0;
  for (let i = 0; i < MAX_SCOPES; i += 1) {
    if ((begun >> i) & 1) at.push(AT_BAN_SECONDS + i, AT_VIOLATIONS + i, AT_BAN_RULE + i);
  }
  return [result, ...at.map((index) => RULE_NUMBERS[index])];
}
