// Creates and restores quotas by the name of their algorithm.

import type { Algorithm, Policy } from '../policies.js';
import { BucketWindow } from './bucket.js';
import { FixedWindows } from './fixed.js';
import { IndependentWindows, type Quotas } from './quotas.js';
import { SlidingWindow } from './sliding.js';

export type { Quotas } from './quotas.js';

export interface AccountingOptions {
  readonly algorithm: Algorithm;
  /** The share of a quota that can be sent in one burst. Only `bucket` uses it. */
  readonly burstShare: number;
}

export function createQuotas(
  options: AccountingOptions,
  policies: readonly Policy[],
  now: number,
): Quotas {
  if (options.algorithm === 'fixed') return new FixedWindows(policies, now);
  return new IndependentWindows(
    policies.map((policy) =>
      options.algorithm === 'bucket'
        ? new BucketWindow(policy, options.burstShare)
        : new SlidingWindow(policy),
    ),
  );
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
    options.algorithm === 'bucket'
      ? BucketWindow.restore(policy, options.burstShare, saved[index], now)
      : SlidingWindow.restore(policy, saved[index], now),
  );
  const valid = windows.filter((window) => window !== undefined);
  return valid.length === windows.length ? new IndependentWindows(valid) : undefined;
}
