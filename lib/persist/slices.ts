// What is saved of a limiter, in slices each of which is written and read in a few milliseconds.

import type { Persistent, Saved } from './saved.js';

/** A slice of a limiter, as far as its size is concerned. */
interface Slice {
  readonly peers: readonly { readonly key: string }[];
  readonly digests: readonly { readonly peers: readonly unknown[] }[];
}

/** Code units of the keys of a slice that has more than one peer. */
const MOST_KEY_UNITS = 2 ** 16;

/**
 * In one piece, taken at once, of a limiter that has no slices. Undefined is a step that has found nobody: there may be
 * hundreds on end, and everybody else must have their turn between them as well.
 */
export function slicesOf(limiter: Persistent): Iterable<Saved | undefined> {
  const { snapshotSlices } = limiter;
  if (snapshotSlices === undefined) return [savedNow(limiter.snapshot())];
  return savedSlices(snapshotSlices.call(limiter) as Iterable<Slice>);
}

function savedNow(snapshot: object): Saved {
  return { savedAt: Math.max(0, Date.now()), snapshot };
}

function* savedSlices(slices: Iterable<Slice>): Generator<Saved | undefined> {
  let isFirst = true;
  for (const slice of slices) {
    const { savedAt } = savedNow(slice);
    // The first one says what limiter it is of, whether it has found anybody or not.
    if (!isFirst && isEmpty(slice)) yield undefined;
    else for (const snapshot of piecesOf(slice)) yield { savedAt, snapshot };
    isFirst = false;
  }
}

function isEmpty({ peers, digests }: Slice): boolean {
  return peers.length === 0 && digests.every((group) => group.peers.length === 0);
}

/** A slice whose keys are very long, as smaller ones. */
function* piecesOf(slice: Slice): Generator<Slice> {
  const { peers } = slice;
  let first = 0;
  let units = 0;
  for (const [i, { key }] of peers.entries()) {
    if (i > first && units + key.length > MOST_KEY_UNITS) {
      yield { ...slice, peers: peers.slice(first, i) };
      first = i;
      units = 0;
    }
    units += key.length;
  }
  yield first === 0 ? slice : { ...slice, peers: peers.slice(first) };
}
