// Tables of the TypeScript engine: Maps. Twin of native/records.h.

import { limiterError } from '../../errors.js';
import type { Bucket } from './arithmetic.js';

/** The peer's bucket, made full if it has none. @throws `ERR_LIMITER_MEMORY` as `store` does. */
export function bucketOf(
  buckets: Map<string, Bucket>,
  key: string,
  capacity: number,
  now: number,
): Bucket {
  let bucket = buckets.get(key);
  if (bucket === undefined) {
    bucket = { tokens: capacity, lastRefill: now };
    store(buckets, key, bucket);
  }
  return bucket;
}

/**
 * `table.set`. @throws `ERR_LIMITER_MEMORY` where the Map takes no more, at some sixteen million
 * entries; nothing has changed then.
 */
export function store<T>(table: Map<string, T>, key: string, value: T): void {
  try {
    table.set(key, value);
  } catch (cause) {
    throw limiterError(Error, 'ERR_LIMITER_MEMORY', 'no memory for one more peer', cause);
  }
}
