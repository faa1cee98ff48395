// The results of a check that carry no delay. They are shared, so that a check with such a result allocates nothing.

import { type CheckResult, RateLimitAction } from './types.js';

export const ALLOWED: CheckResult = Object.freeze([RateLimitAction.ALLOW, 0] as const);
export const DISCONNECTED: CheckResult = Object.freeze([RateLimitAction.DISCONNECT, 0] as const);
