// Quotas by the name of their algorithm: fresh, or as they were saved.

import type { Policy } from '../policies.js';
import { BucketWindow } from './bucket.js';
import { FixedWindows } from './fixed.js';
import { IndependentWindows, type Quotas } from './quotas.js';
import { SlidingWindow } from './sliding.js';

export type { Quotas } from './quotas.js';

/** How windows are counted; each is described in its file. */
export type Algorithm = 'bucket' | 'sliding' | 'fixed';

export interface Accounting {
  readonly algorithm: Algorithm;
  /** Which share of a quota may go at once; `bucket` alone has it. */
  readonly burstShare: number;
}

export function freshQuotas(how: Accounting, policies: readonly Policy[], now: number): Quotas {
  if (how.algorithm === 'fixed') return new FixedWindows(policies, now);
  return new IndependentWindows(
    policies.map((policy) =>
      how.algorithm === 'bucket'
        ? new BucketWindow(policy, how.burstShare)
        : new SlidingWindow(policy),
    ),
  );
}

/** What `Quotas.save` gave, its times counting from `now`; undefined where it cannot be read. */
export function restoredQuotas(
  how: Accounting,
  policies: readonly Policy[],
  saved: readonly unknown[],
  now: number,
): Quotas | undefined {
  if (how.algorithm === 'fixed') return FixedWindows.restore(policies, saved, now);
  const windows = policies.map((policy, at) =>
    how.algorithm === 'bucket'
      ? BucketWindow.restore(policy, how.burstShare, saved[at], now)
      : SlidingWindow.restore(policy, saved[at], now),
  );
  const whole = windows.filter((window) => window !== undefined);
  return whole.length === windows.length ? new IndependentWindows(whole) : undefined;
}
