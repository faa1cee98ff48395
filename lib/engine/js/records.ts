// Converts between the records of a limiter and the values that a snapshot stores. Counterpart of
// native/limiters/records.h.

import type { SnapshotBucket, SnapshotPeer } from '../../common/types.js';
import { NEVER, refill } from '../../tables/arithmetic.js';
import type { Buckets, Place } from '../../tables/table.js';
import { type OffenderColumns, offenderAt } from '../columns.js';
import { SNAPSHOT_SECONDS } from '../engine.js';
import { MOST_LOOKED_AT, SAMPLE } from './eviction.js';
import { COST_OF_BANNED, costOfOffender, type EvictionCost } from './eviction-cost.js';

/** Tokens as of the last refill, and the instant of that refill. */
type BucketState = readonly [tokens: number, lastRefill: number];

/** Seconds since the peer's last refill or allowed request; Infinity if unknown. */
export function idleSecondsOf({ idleSeconds }: SnapshotPeer): number {
  return idleSeconds ?? Infinity;
}

export function evictionCostOf(peer: SnapshotPeer): EvictionCost {
  const isBanned = peer.banSecondsLeft !== null;
  return isBanned ? COST_OF_BANNED : costOfOffender(peer.violations, idleSecondsOf(peer));
}

/** When the peer's ban began; NEVER without one. */
export function banBegan(
  { banSecondsLeft }: SnapshotPeer,
  now: number,
  banDuration: number,
): number {
  return banSecondsLeft === null ? NEVER : now - (banDuration - banSecondsLeft);
}

/** Whether the first of two buckets of one peer has fewer tokens at the later of both refills. */
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

/** Keeps the emptier of the bucket at `place` and the saved one. */
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

/** A bucket as a snapshot saves it; null if there is none or if it is full within SNAPSHOT_SECONDS. */
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
 * Calls `restore` for each offender of a snapshot, and returns how often it returned true. `most` is the
 * maximum number of records that an eviction may visit.
 */
export function restoreAll(
  offenders: OffenderColumns,
  restore: (peer: SnapshotPeer, most: number) => boolean,
): number {
  let restored = 0;
  // If there are more peers than maxPeers, the snapshot lists the worst first. So if no peer can be evicted for one
  // offender, the next one will probably be refused too, and a small search is enough.
  let most = MOST_LOOKED_AT;
  for (let i = 0; i < offenders.keys.length; i += 1) {
    if (restore(offenderAt(offenders, i), most)) restored += 1;
    else most = SAMPLE;
  }
  return restored;
}
