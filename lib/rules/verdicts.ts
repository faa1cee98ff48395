// The verdicts of a RuleLimiter. Those without a delay are shared, so that they allocate nothing.

import type { RuleVerdict } from './types.js';

export const ALLOWED: RuleVerdict = verdict('allow', 0, null, null, null);

export function verdict(
  outcome: RuleVerdict['outcome'],
  delaySeconds: number,
  rule: string | null,
  scope: string | null,
  warning: string | null,
): RuleVerdict {
  return Object.freeze({ outcome, delaySeconds, rule, scope, warning });
}
