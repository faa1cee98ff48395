// Shared by the tests of the client: limiters on a virtual clock, counts of what was sent, and reports of servers.

import fc from 'fast-check';
import { type Lease, PolicyLimiter, type PolicyLimiterOptions } from 'relay-limiter/client';
import type { RateLimitInfo, ServiceLimit } from 'relay-limiter/headers';
import { afterEach, beforeEach, vi } from 'vitest';
import { type ManualClock, manualClock } from '../support/limiters.js';

export type Quota = PolicyLimiterOptions['policies'][number];

/**
 * Fakes timers and clocks in each test of the file that calls it, at an instant with whole seconds. The time stands still
 * until a test lets it pass.
 */
export function useVirtualTime(options: Parameters<typeof vi.useFakeTimers>[0] = { now: 1e9 }) {
  beforeEach(() => {
    vi.useFakeTimers(options);
  });
  afterEach(() => {
    vi.useRealTimers();
  });
}

/** Returns the seconds since 1970 of the virtual time. */
export const now = (): number => Date.now() / 1000;

/** Lets the virtual time pass, and what is due happen. */
export const pass = (seconds: number) => vi.advanceTimersByTimeAsync(seconds * 1000);

/** Returns a limiter on a clock that stands still until the test sets it. Its wall clock stands still too. */
export function limited(
  policies: readonly Quota[],
  options: Omit<PolicyLimiterOptions, 'policies'> = {},
  start?: number,
): { limiter: PolicyLimiter; clock: ManualClock } {
  const clock = manualClock(start);
  const wallClock = () => 1_800_000_000;
  return { limiter: new PolicyLimiter({ policies, clock, wallClock, ...options }), clock };
}

/** Takes units until none is available, and returns their number. */
export function burst(limiter: PolicyLimiter, most = 10_000): number {
  let sent = 0;
  while (sent < most && limiter.tryAcquire()) sent += 1;
  return sent;
}

export interface Sent {
  at: number;
  cost: number;
}

/** Returns the maximum of units in any [t, t + seconds), which is that of an interval that begins with a request. */
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

/** Takes of random costs, some of which are refunded, in any order and at any time. */
export const takes = fc.array(
  fc.record({
    cost: fc.integer({ min: 0, max: 9 }),
    pause: fc.constantFrom(0, 0, 1, 3.5, 10, 15),
    ends: fc.constantFrom('none', 'refund', 'refund', 'release'),
    which: fc.nat(),
  }),
  { minLength: 100, maxLength: 150, size: 'max' },
);

/** Returns the takes that were granted, with cost 0 if refunded. `then` is called after each take. */
export function sentOf(
  all: readonly { cost: number; pause: number; ends: string; which: number }[],
  limiter: PolicyLimiter,
  clock: ManualClock,
  then = () => {},
): Sent[] {
  const open: { lease: Lease; entry: Sent }[] = [];
  const sent: Sent[] = [];
  for (const { cost, pause, ends, which } of all) {
    const lease = limiter.tryLease(cost);
    const entry = { at: clock.now, cost };
    if (lease !== null) {
      open.push({ lease, entry });
      sent.push(entry);
    }
    then();
    const [ended] = ends === 'none' ? [] : open.splice(which % Math.max(1, open.length), 1);
    if (ends === 'release') ended?.lease.release();
    else if (ended !== undefined) {
      ended.lease.refund();
      ended.entry.cost = 0;
    }
    clock.now += pause;
  }
  return sent;
}

/** Returns a policy as a server reports it. */
export const policyOf = (quota: number, windowSeconds: number, more = {}) => ({
  name: 'a',
  quota,
  windowSeconds,
  unit: 'requests',
  partitionKey: null,
  parameters: {},
  ...more,
});

/** Returns what the headers of a response say; by default nothing. */
export function said(what: Partial<RateLimitInfo> = {}): RateLimitInfo {
  return { policies: [], limits: [], retryAfterSeconds: null, ignored: [], ...what };
}

/** Returns the report of a response that `remaining` units are left for `resetSeconds`. */
export function left(
  remaining: number,
  resetSeconds: number | null,
  more: Partial<ServiceLimit> = {},
): RateLimitInfo {
  const limit = { name: 'a', limit: null, partitionKey: null, cost: null, ...more };
  return said({ limits: [{ ...limit, remaining, resetSeconds }] });
}

/** Policies that leave most decisions to the reports of the server. */
export const ROOMY = [{ quota: 1000, windowSeconds: 60 }];
/** The options of a limiter without pacing and jitter. */
export const GREEDY = { algorithm: 'sliding', random: () => 0 } as const;
/** Returns a limiter without pacing and jitter. */
export const greedy = (policies: readonly Quota[] = ROOMY, options = {}) =>
  limited(policies, { ...GREEDY, ...options });

/** Takes quota, which must be available, and returns its lease. */
export function lease(limiter: PolicyLimiter, cost?: number): Lease {
  const taken = limiter.tryLease(cost);
  if (taken === null) throw new Error('no quota is available');
  return taken;
}

/** The options of a limiter that never delays a test. */
export const plenty = { policies: [{ quota: 1000, windowSeconds: 1 }] };
/** The fields of a refusal that allows a retry at once. */
export const NOW = { 'Retry-After': '0' };

/** Returns a limiter without delays: its clock jumps past every block. */
export function hastyLimiter(): PolicyLimiter {
  let time = 0;
  return new PolicyLimiter({
    ...plenty,
    clock: () => {
      time += 1000;
      return time;
    },
  });
}

/** Returns a limiter of one unit, which shows whether quota was refunded or spent: its clock stands still. */
export function single(options = {}): PolicyLimiter {
  return new PolicyLimiter({
    policies: [{ quota: 1, windowSeconds: 3600 }],
    algorithm: 'sliding',
    clock: manualClock(),
    ...options,
  });
}

/** Returns a limiter whose quota is spent. */
export function spent(options = {}): PolicyLimiter {
  const limiter = single(options);
  limiter.tryAcquire();
  return limiter;
}
