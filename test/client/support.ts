// What the tests of the client share: sending on a virtual clock, and counting what was sent.

import { PolicyLimiter, type PolicyLimiterOptions } from 'relay-limiter/client';
import type { RateLimitInfo, ServiceLimit } from 'relay-limiter/headers';
import { type ManualClock, manualClock } from '../support/limiters.js';

export type Quota = PolicyLimiterOptions['policies'][number];

/** A limiter on a clock that stands still until it is set. */
export function limited(
  policies: readonly Quota[],
  options: Omit<PolicyLimiterOptions, 'policies'> = {},
  start?: number,
): { limiter: PolicyLimiter; clock: ManualClock } {
  const clock = manualClock(start);
  return { limiter: new PolicyLimiter({ policies, clock, ...options }), clock };
}

/** How many requests go at once. */
export function burst(limiter: PolicyLimiter, most = 10_000): number {
  let sent = 0;
  while (sent < most && limiter.tryAcquire()) sent += 1;
  return sent;
}

export interface Sent {
  at: number;
  cost: number;
}

/**
 * The most units in any [t, t + seconds), which is the most in one that begins with a request.
 */
export function mostIn(seconds: number, sent: readonly Sent[]): number {
  let most = 0;
  let first = 0;
  let units = 0;
  for (const { at, cost } of sent) {
    units += cost;
    for (; at - (sent[first] as Sent).at >= seconds; first += 1)
      units -= (sent[first] as Sent).cost;
    most = Math.max(most, units);
  }
  return most;
}

/** What the headers of a response say; nothing unless told otherwise. */
export function said(what: Partial<RateLimitInfo> = {}): RateLimitInfo {
  return { policies: [], limits: [], retryAfterSeconds: null, ignored: [], ...what };
}

/** That so many are left, for so long. */
export function left(
  remaining: number,
  resetSeconds: number | null,
  more: Partial<ServiceLimit> = {},
): RateLimitInfo {
  const limit = { name: 'a', limit: null, partitionKey: null, cost: null, ...more };
  return said({ limits: [{ ...limit, remaining, resetSeconds }] });
}
