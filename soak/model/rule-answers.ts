// The answers of the reference model of RuleLimiter, and what one call asks of one rule.

import type { ModelRule, RuleLimits, RuleRecord } from './rule-records.js';

/** What a RuleLimiter returns. */
export interface ModelVerdict {
  readonly outcome: 'allow' | 'delay' | 'banned' | 'denied';
  readonly delaySeconds: number;
  readonly rule: string | null;
  readonly scope: string | null;
  readonly warning: string | null;
}

export interface ModelBan {
  readonly scope: string;
  readonly key: string;
  readonly rule: string;
  readonly violations: number;
  readonly banDuration: number;
}

/** What a call asks for. */
export interface RuleQuery {
  /** By scope. */
  readonly keys: Readonly<Record<string, string>>;
  /** By unit. */
  readonly cost: Readonly<Record<string, number>>;
  readonly action: string | undefined;
  /** Index of a plan; 0: the base plan. */
  readonly plan: number;
}

/** A key that a snapshot may contain. */
export interface SavedPeer {
  readonly scope: string;
  readonly key: string;
  /** It has violations or a ban in force. */
  readonly isOffender: boolean;
}

/** A rule that a call asks, and what its bucket has. */
export interface Asked {
  readonly rule: ModelRule;
  readonly limits: RuleLimits;
  readonly record: RuleRecord;
  readonly cost: number;
}

export const ALLOWED: ModelVerdict = {
  ...{ outcome: 'allow', delaySeconds: 0, rule: null, scope: null, warning: null },
};
export function allows({ rule, limits, record, cost }: Asked): boolean {
  return (record.used.get(rule.name) ?? 0) + cost <= limits.burst;
}

/** The rule with the longest delay, the first of several. */
export function longestOf(refusing: readonly Asked[]): {
  delaySeconds: number;
  rule: string;
  scope: string;
} {
  let longest = { delaySeconds: -1, rule: '', scope: '' };
  for (const { rule, limits, record, cost } of refusing) {
    const { rate, burst } = limits;
    const exact =
      cost > burst ? Infinity : ((record.used.get(rule.name) ?? 0) + cost - burst) / rate;
    const steps = exact * 2 ** 20;
    const delaySeconds = Number.isFinite(steps) ? (Math.ceil(steps) + 1) / 2 ** 20 : exact;
    if (delaySeconds > longest.delaySeconds)
      longest = { delaySeconds, rule: rule.name, scope: rule.scope };
  }
  return longest;
}
