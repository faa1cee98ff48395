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
