// Limits from plain values: what the fields of the first drafts and of vendors give.

import { BELOW_ZERO } from './numbers.js';
import type { Reset } from './resets.js';
import type { QuotaPolicy, ServiceLimit } from './types.js';

/** What the limits of one family of fields have in common. */
export interface LimitIdentity {
  /** The name of the limit; null if the family has only one. */
  readonly name: string | null;
  /** What is counted; undefined if the fields do not say. */
  readonly unit?: string | undefined;
}

/** Whether the value says that there is no such limit. */
export function isNoLimit(limit: number | null): boolean {
  return limit === BELOW_ZERO;
}

/** Returns the limit with these values. Some servers count below 0 when they refuse: then 0 units remain. */
export function limitOf(
  { name, unit }: LimitIdentity,
  limit: number | null,
  remaining: number | null,
  reset: Reset | null,
): ServiceLimit {
  const result: ServiceLimit = {
    name,
    limit,
    remaining: remaining === null ? null : Math.max(0, remaining),
    resetSeconds: reset?.seconds ?? null,
    partitionKey: null,
    cost: null,
  };
  if (unit !== undefined) result.unit = unit;
  if (reset !== null && reset.isExact === Number.isInteger(reset.seconds)) {
    result.exact = reset.isExact;
  }
  return result;
}

export function policyOf(name: string, quota: number, windowSeconds: number): QuotaPolicy {
  return { name, quota, windowSeconds, unit: 'requests', partitionKey: null, parameters: {} };
}

/**
 * Returns a limit for each position in the lists. A single value applies to all positions. If the lists have different
 * lengths otherwise, and of limits with the same quota, only the tightest one is returned.
 */
export function limitsOf(
  identity: LimitIdentity,
  quotas: readonly number[],
  remaining: readonly number[],
  resets: readonly Reset[],
): ServiceLimit[] {
  const count = Math.max(quotas.length, remaining.length, resets.length);
  if (count === 1) {
    const quota = quotas[0] ?? null;
    const limit = limitOf(identity, quota, remaining[0] ?? null, resets[0] ?? null);
    return isNoLimit(quota) ? [] : [limit];
  }
  const lists = [quotas, remaining, resets];
  const isAligned = lists.every(({ length }) => length <= 1 || length === count);
  const found = new Map<number | null, ServiceLimit>();
  for (let index = 0; index < count; index += 1) {
    const quota = isAligned ? valueAt(quotas, index) : (quotas[0] ?? null);
    if (isNoLimit(quota)) continue;
    const next = limitOf(identity, quota, valueAt(remaining, index), valueAt(resets, index));
    const other = found.get(quota);
    if (other === undefined || isTighter(next, other)) found.set(quota, next);
  }
  return [...found.values()];
}

function valueAt<T>(values: readonly T[], index: number): T | null {
  return (values.length === 1 ? values[0] : values[index]) ?? null;
}

function isTighter(a: ServiceLimit, b: ServiceLimit): boolean {
  const [left, otherLeft] = [a.remaining ?? Infinity, b.remaining ?? Infinity];
  return left === otherLeft ? (a.resetSeconds ?? 0) > (b.resetSeconds ?? 0) : left < otherLeft;
}
