// Verdicts of a RuleLimiter, as tests expect them.

import type { RuleVerdict } from 'relay-limiter';

export const STEP = 2 ** -20;
export const ALLOWED: RuleVerdict = {
  outcome: 'allow',
  delaySeconds: 0,
  rule: null,
  scope: null,
  warning: null,
};

export const delayed = (seconds: number, rule: string | null, scope: string): RuleVerdict => ({
  ...ALLOWED,
  outcome: 'delay',
  delaySeconds: Math.ceil(seconds / STEP) * STEP + STEP,
  rule,
  scope,
});
export const banned = (
  delaySeconds: number,
  scope: string,
  rule: string | null = null,
): RuleVerdict => ({
  ...ALLOWED,
  outcome: 'banned',
  delaySeconds,
  rule,
  scope,
});
export const denied = (scope: string): RuleVerdict => ({
  ...ALLOWED,
  outcome: 'denied',
  delaySeconds: Infinity,
  scope,
});
