// What a snapshot says of an offender, as the limiters reckon with it. Twin of native/limiters/records.h.

import type { SnapshotBucket, SnapshotPeer } from '../../common/types.js';
import { NEVER, refill } from '../../tables/arithmetic.js';
import type { Buckets, Place } from '../../tables/table.js';
import { type OffenderColumns, offenderAt } from '../columns.js';
import { SNAPSHOT_SECONDS } from '../engine.js';
import { MOST_LOOKED_AT, SAMPLE } from './eviction.js';
import { COST_OF_BANNED, costOfOffender, type EvictionCost } from './eviction-cost.js';

/** Tokens, and when they were last refilled. */
type BucketState = readonly [tokens: number, lastRefill: number];

/** Infinity where it is unknown. */
export function idleSecondsOf({ idleSeconds }: SnapshotPeer): number {
  return idleSeconds ?? Infinity;
}

/** What is lost with it. */
export function evictionCostOf(peer: SnapshotPeer): EvictionCost {
  const isBanned = peer.banSecondsLeft !== null;
  return isBanned ? COST_OF_BANNED : costOfOffender(peer.violations, idleSecondsOf(peer));
}

/** When its ban began; NEVER: it has none. */
export function banBegan(
  { banSecondsLeft }: SnapshotPeer,
  now: number,
  banDuration: number,
): number {
  return banSecondsLeft === null ? NEVER : now - (banDuration - banSecondsLeft);
}

/** Whether of two buckets the first has fewer tokens, as of the later of their refills. */
export function isEmptier(
  [tokens, lastRefill]: BucketState,
  [otherTokens, otherRefill]: BucketState,
  rate: number,
  capacity: number,
): boolean {
  const later = Math.max(lastRefill, otherRefill);
  return (
    refill(tokens, lastRefill, later, rate, capacity) <
    refill(otherTokens, otherRefill, later, rate, capacity)
  );
}

/** Writes a saved bucket to `place`, unless what is there is emptier. */
export function restoreBucket(
  buckets: Buckets,
  place: Place,
  { tokens, idleSeconds }: SnapshotBucket,
  now: number,
  rate: number,
  capacity: number,
): void {
  const saved: BucketState = [tokens, now - idleSeconds];
  const known: BucketState = [buckets.tokens(place), buckets.lastRefill(place)];
  if (isEmptier(saved, known, rate, capacity)) buckets.set(place, ...saved);
}

/** What a snapshot says of a bucket; null if it is full again within SNAPSHOT_SECONDS. */
export function savedBucket(
  buckets: Buckets,
  place: Place | undefined,
  now: number,
  rate: number,
  capacity: number,
): SnapshotBucket | null {
  if (place === undefined) return null;
  const seconds = buckets.secondsUntilFull(place, now, rate, capacity);
  if (!(seconds > SNAPSHOT_SECONDS)) return null;
  return { tokens: buckets.tokens(place), idleSeconds: buckets.idle(place, now) };
}

/**
 * Puts back one by one, and returns how many found room: `restore` says whether one did. For its room
 * up to `most` records are looked at.
 */
export function restoreAll(
  offenders: OffenderColumns,
  restore: (peer: SnapshotPeer, most: number) => boolean,
): number {
  let restored = 0;
  // Where room is scarce the worst come first: if nobody can go for one of them, nobody is likely to
  // go for the next.
  let most = MOST_LOOKED_AT;
  for (let i = 0; i < offenders.keys.length; i += 1) {
    if (restore(offenderAt(offenders, i), most)) restored += 1;
    else most = SAMPLE;
  }
  return restored;
}
