// Creates and restores quotas by the name of their algorithm.

import type { Algorithm, Policy } from '../policies.js';
import { BucketWindow } from './bucket.js';
import { FixedWindows } from './fixed.js';
import { PacedWindow } from './paced.js';
import { IndependentWindows, type Quotas, type QuotaWindow } from './quotas.js';
import { SlidingWindow } from './sliding.js';

export type { Quotas } from './quotas.js';

export interface AccountingOptions {
  readonly algorithm: Algorithm;
  /** The share of a quota that can be sent in one burst, by `bucket` and in windows that are paced. */
  readonly burstShare: number;
  /** `sliding` paces windows of at most this length. Default: none. */
  readonly pacedSeconds?: number;
  /** Returns seconds by which windows are longer at present. Only `sliding` uses it. */
  readonly extraSeconds?: () => number;
}

export function createQuotas(
  options: AccountingOptions,
  policies: readonly Policy[],
  now: number,
): Quotas {
  if (options.algorithm === 'fixed') return new FixedWindows(policies, now);
  return new IndependentWindows(policies.map((policy) => createWindow(options, policy)));
}

/** Restores what `Quotas.save` returned; its times count from `now`. Returns undefined for an invalid state. */
export function restoreQuotas(
  options: AccountingOptions,
  policies: readonly Policy[],
  saved: readonly unknown[],
  now: number,
): Quotas | undefined {
  if (options.algorithm === 'fixed') return FixedWindows.restore(policies, saved, now);
  const windows = policies.map((policy, index) =>
    restoreWindow(options, policy, saved[index], now),
  );
  const valid = windows.filter((window) => window !== undefined);
  return valid.length === windows.length ? new IndependentWindows(valid) : undefined;
}

/**
 * Returns the accounting of `policies` that continues `previous`, that of `from`: what is spent stays spent. Returns
 * undefined if that is impossible, which is so for fixed windows of another length.
 */
export function resizeQuotas(
  options: AccountingOptions,
  policies: readonly Policy[],
  from: readonly Policy[],
  previous: Quotas,
  now: number,
): Quotas | undefined {
  const sameWindows = hasEqual(policies, from, ({ windowSeconds }) => windowSeconds);
  if (sameWindows && hasEqual(policies, from, ({ quota }) => quota)) return previous;
  if (options.algorithm === 'fixed' && !sameWindows) return undefined;
  const states = previous.save(now).map((state, index) => {
    const [old, next] = [from[index] as Policy, policies[index] as Policy];
    if (options.algorithm === 'sliding') return state;
    if (options.algorithm === 'bucket') {
      return BucketWindow.resize(state, old, next, options.burstShare);
    }
    const [remaining = 0, ...times] = state;
    return [remaining + next.quota - old.quota, ...times];
  });
  return restoreQuotas(options, policies, states, now);
}

function createWindow(options: AccountingOptions, policy: Policy): QuotaWindow {
  const { algorithm, burstShare, extraSeconds } = options;
  if (algorithm === 'bucket') return new BucketWindow(policy, burstShare);
  return paced(options, policy, new SlidingWindow(policy, extraSeconds));
}

function restoreWindow(
  options: AccountingOptions,
  policy: Policy,
  saved: unknown,
  now: number,
): QuotaWindow | undefined {
  const { algorithm, burstShare, extraSeconds } = options;
  if (algorithm === 'bucket') return BucketWindow.restore(policy, burstShare, saved, now);
  const window = SlidingWindow.restore(policy, extraSeconds, saved, now);
  return window && paced(options, policy, window);
}

function paced(options: AccountingOptions, policy: Policy, window: QuotaWindow): QuotaWindow {
  const { burstShare, pacedSeconds = 0 } = options;
  if (policy.windowSeconds > pacedSeconds) return window;
  // The bucket refills the whole quota in a window, besides its burst: the window alone bounds what is sent.
  const pace = { ...policy, quota: policy.quota / (1 - burstShare) };
  return new PacedWindow(window, new BucketWindow(pace, burstShare));
}

function hasEqual(
  a: readonly Policy[],
  b: readonly Policy[],
  field: (policy: Policy) => number,
): boolean {
  return a.length === b.length && a.every((policy, at) => field(policy) === field(b[at] as Policy));
}
