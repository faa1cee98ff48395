// What a snapshot says of an offender, as the limiters reckon with it. Twin of native/records.h.

import type { SnapshotPeer } from '../../types.js';
import { NEVER } from './arithmetic.js';
import { LOSS_OF_BANNED, type Loss, lossOfPunished } from './eviction.js';

/** Infinity where it is unknown. */
export function idleSecondsOf({ idleSeconds }: SnapshotPeer): number {
  return idleSeconds ?? Infinity;
}

/** What is lost with it. */
export function lossOf(peer: SnapshotPeer): Loss {
  const isBanned = peer.banSecondsLeft !== null;
  return isBanned ? LOSS_OF_BANNED : lossOfPunished(peer.violations, idleSecondsOf(peer));
}

/** When its ban began; NEVER: it has none. */
export function banBegan(
  { banSecondsLeft }: SnapshotPeer,
  now: number,
  banDuration: number,
): number {
  return banSecondsLeft === null ? NEVER : now - (banDuration - banSecondsLeft);
}

/** Puts back one by one, and returns how many found room: `restore` says whether one did. */
export function restoreAll(
  peers: readonly SnapshotPeer[],
  restore: (peer: SnapshotPeer) => boolean,
): number {
  let restored = 0;
  for (const peer of peers) if (restore(peer)) restored += 1;
  return restored;
}
