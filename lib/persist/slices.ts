// Splits the snapshot of a limiter into slices that are each written or read in a few milliseconds.

import type { Persistent, Saved } from './saved.js';

/** The parts of a slice that determine its size. */
interface Slice {
  readonly peers: readonly { readonly key: string }[];
  readonly digests: readonly { readonly peers: readonly unknown[] }[];
  /** The state of a single scope of a RuleLimiter. */
  readonly single?: unknown;
}

/** The maximum sum of key lengths in a slice with more than one peer, in code units. */
const MAX_KEY_UNITS = 2 ** 16;

/**
 * Returns the slices to save. A limiter without slices is saved in one piece, at the time of this call. Undefined
 * stands for an empty slice: hundreds may follow each other, and the event loop must run between them too.
 */
export function slicesOf(limiter: Persistent): Iterable<Saved | undefined> {
  const { snapshotSlices } = limiter;
  if (snapshotSlices === undefined) return [savedNow(limiter.snapshot())];
  return savedSlices(limiter, snapshotSlices.call(limiter) as Iterable<Slice>);
}

function savedNow(snapshot: object): Saved {
  return { savedAt: Math.max(0, Date.now()), snapshot };
}

function* savedSlices(limiter: Persistent, slices: Iterable<Slice>): Generator<Saved | undefined> {
  let isFirst = true;
  for (const slice of slices) {
    const { savedAt } = savedNow(slice);
    // The first slice identifies the limiter, so it is saved even if it is empty.
    if (!isFirst && isEmpty(slice)) yield undefined;
    else for (const snapshot of piecesOf(slice)) yield { savedAt, snapshot };
    isFirst = false;
  }
  // A RuleLimiter whose scopes are all single has no slices if nothing is used.
  if (isFirst) yield savedNow(limiter.snapshot());
}

function isEmpty({ peers, digests, single }: Slice): boolean {
  return (
    single === undefined && peers.length === 0 && digests.every((group) => group.peers.length === 0)
  );
}

/** Splits a slice with very long keys into smaller slices. The last one has the digests. */
function* piecesOf(slice: Slice): Generator<Slice> {
  const { peers } = slice;
  let first = 0;
  let units = 0;
  for (const [i, { key }] of peers.entries()) {
    if (i > first && units + key.length > MAX_KEY_UNITS) {
      yield { ...slice, peers: peers.slice(first, i), digests: [] };
      first = i;
      units = 0;
    }
    units += key.length;
  }
  yield first === 0 ? slice : { ...slice, peers: peers.slice(first) };
}
