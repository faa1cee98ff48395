// Snapshots of limiters: what is one, and says so when it is not. Knows no engine.

import { limiterError, refusedNumber, show } from './errors.js';
import type { LimiterName, SnapshotPeer } from './types.js';

const FORMAT = 1;
const SNAPSHOT_FIELDS = ['format', 'limiter', 'peers'];
const PEER_FIELDS = ['key', 'violations', 'banSecondsLeft', 'idleSeconds'];

/**
 * The peers of a snapshot that a limiter of this name can take: their bans at most `banDuration`
 * seconds, 0 where it bans nobody, and without those whose ban is over.
 * @throws `ERR_LIMITER_SNAPSHOT` naming the first thing that is wrong.
 */
export function readSnapshot(
  given: unknown,
  name: LimiterName,
  banDuration: number,
): SnapshotPeer[] {
  const { format, limiter, peers } = fields(given, 'a snapshot', SNAPSHOT_FIELDS);
  if (format !== FORMAT) throw wrong('format', format, show(FORMAT));
  if (limiter !== name) throw wrong('limiter', limiter, show(name));
  if (!Array.isArray(peers)) throw wrong('peers', peers, 'an array');
  const keys = new Set<string>();
  const read: SnapshotPeer[] = [];
  // By index: an array with holes has peers that are undefined.
  for (let i = 0; i < peers.length; i += 1) {
    const peer = readPeer(peers[i], `peers[${i}]`, name);
    if (keys.has(peer.key))
      throw wrong(`peers[${i}].key`, peer.key, 'a key that no other peer has');
    keys.add(peer.key);
    const left = peer.banSecondsLeft;
    if (left === null) read.push(peer);
    else if (Math.min(left, banDuration) > 0) {
      read.push({ ...peer, banSecondsLeft: Math.min(left, banDuration) });
    }
  }
  return read;
}

/**
 * The banned, then those with the most violations, then those who were idle the shortest: as an
 * eviction ranks them, so that none of them takes the place of one that came before it.
 */
export function worstFirst(peers: readonly SnapshotPeer[]): SnapshotPeer[] {
  const isBanned = ({ banSecondsLeft }: SnapshotPeer) => (banSecondsLeft === null ? 0 : 1);
  // No snapshot has a larger number.
  const idle = ({ idleSeconds }: SnapshotPeer) => idleSeconds ?? Number.MAX_VALUE;
  return [...peers].sort(
    (a, b) => isBanned(b) - isBanned(a) || b.violations - a.violations || idle(a) - idle(b),
  );
}

function readPeer(given: unknown, path: string, name: LimiterName): SnapshotPeer {
  const { key, violations, banSecondsLeft, idleSeconds } = fields(given, path, PEER_FIELDS);
  if (typeof key !== 'string') throw wrong(`${path}.key`, key, 'a string');
  if (!Number.isSafeInteger(violations) || (violations as number) < 0) {
    throw wrong(`${path}.violations`, violations, 'a whole number from 0 to 2^53 - 1');
  }
  requireSeconds(banSecondsLeft, `${path}.banSecondsLeft`);
  requireSeconds(idleSeconds, `${path}.idleSeconds`);
  if (banSecondsLeft !== null && name === 'RateLimiter') {
    throw wrong(`${path}.banSecondsLeft`, banSecondsLeft, 'null: a RateLimiter bans nobody');
  }
  if (violations === 0 && banSecondsLeft === null) {
    throw wrong(`${path}.violations`, violations, 'at least 1 where there is no ban');
  }
  return { key, violations: violations as number, banSecondsLeft, idleSeconds };
}

function requireSeconds(given: unknown, path: string): asserts given is number | null {
  if (given === null || (typeof given === 'number' && given >= 0 && given < Infinity)) return;
  throw wrong(path, given, 'null or a finite number of at least 0');
}

/** Those of an object that has all of `names` and no others. */
function fields(given: unknown, path: string, names: readonly string[]): Record<string, unknown> {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw wrong(path, given, 'an object');
  }
  const surplus = Object.keys(given).find((name) => !names.includes(name));
  if (surplus !== undefined) {
    const message = `${path} must have ${names.join(', ')} and nothing else, got ${show(surplus)}`;
    throw limiterError(TypeError, 'ERR_LIMITER_SNAPSHOT', message);
  }
  return given as Record<string, unknown>;
}

function wrong(path: string, given: unknown, accepted: string): Error {
  return refusedNumber('ERR_LIMITER_SNAPSHOT', path, given, accepted);
}
