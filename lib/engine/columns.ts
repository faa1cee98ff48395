// The content of a snapshot in columns: arrays of numbers take less memory than an object for each peer.

import type { SnapshotPeer } from '../common/types.js';

/** Offenders by key. */
export interface OffenderColumns {
  readonly keys: readonly string[];
  /**
   * OFFENDER_NUMBERS for each: its violations; the remaining seconds of its ban, or NaN; its idle seconds,
   * or Infinity; the tokens of its bucket, or NaN; the seconds since the last refill.
   */
  readonly numbers: Float64Array;
}

export const OFFENDER_NUMBERS = 5;

/** How many numbers offenders have in columns; among them, the remaining seconds of the ban and the idle seconds. */
export interface OffenderLayout {
  readonly width: number;
  readonly ban: number;
  readonly idle: number;
}

export const OFFENDER_LAYOUT: OffenderLayout = { width: OFFENDER_NUMBERS, ban: 1, idle: 2 };

/** Peers under digests that were made with one secret. */
export interface DigestColumns {
  /** Four words, low ones first. */
  readonly secret: Uint32Array;
  /** Four words for each peer, low ones first. */
  readonly digests: Uint32Array;
  /**
   * Three for each: the seconds since its last allowed request, or NaN; the tokens of its bucket, or NaN;
   * the seconds since the last refill.
   */
  readonly numbers: Float64Array;
}

/** The offender at an index. */
export function offenderAt({ keys, numbers }: OffenderColumns, i: number): SnapshotPeer {
  const at = i * OFFENDER_NUMBERS;
  const left = numbers[at + 1] as number;
  const idle = numbers[at + 2] as number;
  const tokens = numbers[at + 3] as number;
  return {
    key: keys[i] as string,
    violations: numbers[at] as number,
    banSecondsLeft: Number.isNaN(left) ? null : left,
    idleSeconds: idle === Infinity ? null : idle,
    bucket: Number.isNaN(tokens) ? null : { tokens, idleSeconds: numbers[at + 4] as number },
  };
}

/**
 * Sorts offenders: banned peers first, then by violations (most first), then by idle time (shortest first). Eviction
 * ranks peers in the same order, so no restored peer evicts a peer that was restored before it.
 */
export function worstFirst(
  { keys, numbers }: OffenderColumns,
  { width, ban, idle }: OffenderLayout,
): OffenderColumns {
  const at = (i: number, n: number) => numbers[i * width + n] as number;
  const isBanned = (i: number) => (Number.isNaN(at(i, ban)) ? 0 : 1);
  const idleOf = (i: number) => Math.min(at(i, idle), Number.MAX_VALUE);
  const order = keys
    .map((_, i) => i)
    .sort((a, b) => isBanned(b) - isBanned(a) || at(b, 0) - at(a, 0) || idleOf(a) - idleOf(b));
  const sorted = new Float64Array(numbers.length);
  for (const [i, from] of order.entries()) {
    sorted.set(numbers.subarray(from * width, (from + 1) * width), i * width);
  }
  return { keys: order.map((i) => keys[i] as string), numbers: sorted };
}
