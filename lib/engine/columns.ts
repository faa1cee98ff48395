// What a snapshot says, in columns: arrays of numbers cost less than an object for each peer.

import type { SnapshotPeer } from '../common/types.js';

/** Offenders, by key. */
export interface OffenderColumns {
  readonly keys: readonly string[];
  /**
   * OFFENDER_NUMBERS for each: violations; seconds its ban has left, or NaN; seconds idle, or Infinity;
   * tokens of its bucket, or NaN; seconds since those were refilled.
   */
  readonly numbers: Float64Array;
}

export const OFFENDER_NUMBERS = 5;

/** Peers under digests made with one secret, in columns. */
export interface DigestColumns {
  /** Four words, low ones first. */
  readonly secret: Uint32Array;
  /** Four words for each peer, low ones first. */
  readonly digests: Uint32Array;
  /**
   * Three for each: seconds since its last allowed request, or NaN; the tokens of its bucket, or NaN;
   * seconds since their last refill.
   */
  readonly numbers: Float64Array;
}

/** The offender at an index of some columns. */
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
