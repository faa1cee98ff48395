// What a peer's bucket is found by: its key, or where it was the last time. Twin of
// native/records.h.

import { keep } from './keys.js';
import type { Buckets, Place } from './table.js';

/** The peer's bucket, made full if it has none. @throws `ERR_LIMITER_MEMORY` as `store` does. */
export function bucketOf(buckets: Buckets, key: string, capacity: number, now: number): Place {
  return buckets.find(key) ?? buckets.insert(keep(key), capacity, now);
}

/** Where some buckets were found the last time: those of a group's members, or SEAT. */
export type Places = Place[] | Int32Array;

/**
 * The same, first where the peer's bucket was found the last time; `places[index]` follows it. The
 * key is an opened peer's or a member's, a copy already. It is kept as it is, since a string is found
 * to equal itself without a look at its text.
 */
export function recalledBucketOf(
  buckets: Buckets,
  places: Places,
  index: number,
  key: string,
  capacity: number,
  now: number,
): Place {
  const place = places[index] as Place;
  if (buckets.isAt(place, key)) return place;
  const found = buckets.find(key) ?? buckets.insert(key, capacity, now);
  buckets.nameAt(found, key);
  places[index] = found;
  return found;
}
