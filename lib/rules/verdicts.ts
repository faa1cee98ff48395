// The verdicts of a RuleLimiter. Those without a delay are shared, so that they allocate nothing.

import { RateLimitAction } from '../common/types.js';
import { STALLED_SECONDS } from '../engine/engine.js';
import type { RuleVerdict } from './types.js';

export const ALLOWED: RuleVerdict = verdict('allow', 0, null, null, null);

/** In place of what cannot be read, because a part of a shared table is stalled. */
export const STALLED: RuleVerdict = verdict('delay', STALLED_SECONDS, null, null, null);

/** The action that the other limiters return in the same case. */
export const ACTIONS = {
  allow: RateLimitAction.ALLOW,
  delay: RateLimitAction.DELAY,
  banned: RateLimitAction.DISCONNECT,
  denied: RateLimitAction.DISCONNECT,
} as const;

/** Why a server refuses a connection or a request. */
export const REFUSAL_REASONS = { delay: 'rate', banned: 'ban', denied: 'denied' } as const;

export function verdict(
  outcome: RuleVerdict['outcome'],
  delaySeconds: number,
  rule: string | null,
  scope: string | null,
  warning: string | null,
): RuleVerdict {
  return Object.freeze({ outcome, delaySeconds, rule, scope, warning });
}
