// What tests of snapshots share: a limiter's rules, and its snapshots as numbers.

import {
  MAX_RULES,
  RULE_DIGEST_NUMBERS,
  RULE_OFFENDER_NUMBERS,
  type RuleDigestColumns,
  type RuleOffenderColumns,
} from '../../dist/engine/rules.js';
import type { RulesSpec } from './plans.js';
import type { RuleSubject } from './subject.js';

export const PEER = { address: 'peer' };
export const REFUSED = { cost: [1000] };

export const spec: RulesSpec = {
  scopes: { address: false, account: false, server: true },
  rules: {
    messages: { scope: 'address', rate: 1, burst: 100 },
    bytes: { scope: 'address', rate: 0.5, burst: 100, unit: 1 },
    events: { scope: 'account', rate: 1, burst: 100 },
    everybody: { scope: 'server', rate: 1, burst: 1e6 },
  },
  bans: {
    address: {
      violations: 4,
      withinSeconds: 64,
      seconds: [32, 64, Infinity],
      forgetAfterSeconds: 256,
    },
  },
};

/** What `snapshot` yields for a scope, joined. */
export interface Saved {
  offenders: Map<string, number[]>;
  order: string[];
  columns: RuleOffenderColumns;
  digests: RuleDigestColumns[];
  /** The numbers of all digests. */
  others: number[][];
}

export function save(limiter: RuleSubject, scope = 'address', most = 7): Saved {
  const keys: string[] = [];
  const rows: number[][] = [];
  const digests: RuleDigestColumns[] = [];
  const others: number[][] = [];
  const steps = limiter.core.snapshot(limiter.scopeOf(scope), most, () => limiter.now);
  for (const step of steps) {
    keys.push(...step.offenders.keys);
    rows.push(...rowsOf(step.offenders.numbers, RULE_OFFENDER_NUMBERS));
    others.push(...rowsOf(step.digests.numbers, RULE_DIGEST_NUMBERS));
    if (step.digests.digests.length > 0) digests.push(step.digests);
  }
  return {
    offenders: new Map(keys.map((key, i) => [key, rows[i] as number[]])),
    order: keys,
    columns: { keys, numbers: Float64Array.from(rows.flat()) },
    ...{ digests, others },
  };
}

function rowsOf(numbers: Float64Array, width: number): number[][] {
  return Array.from({ length: numbers.length / width }, (_, i) => [
    ...numbers.subarray(i * width, (i + 1) * width),
  ]);
}

export function restore(limiter: RuleSubject, saved: Saved, scope = 'address'): number {
  const index = limiter.scopeOf(scope);
  let restored = limiter.core.restore(index, saved.columns, limiter.now);
  for (const digests of saved.digests) {
    restored += limiter.core.restoreDigests(index, digests, limiter.now);
  }
  return restored;
}

/** The columns of used tokens: those that are given, and NaN for the other slots. */
export const used = (...tokens: number[]) =>
  Array.from({ length: MAX_RULES }, (_, slot) => tokens[slot] ?? Number.NaN);
export const NONE = Number.NaN;

/** Columns of one offender. */
export function offender(
  key: string,
  [violations, level, banLevel, banLeft, sinceBan, idle]: number[],
  tokens = used(),
): RuleOffenderColumns {
  const row = [violations, level, banLevel, banLeft, sinceBan, idle, ...tokens] as number[];
  return { keys: [key], numbers: Float64Array.from(row) };
}
