// Ages a snapshot by the time between its save and its load: bans end, buckets refill.

/** The fields that depend on time. `restore` validates the snapshot, so their types are unknown here. */
interface AgingPeer {
  readonly banSecondsLeft?: unknown;
  readonly idleSeconds?: unknown;
  readonly bucket?: unknown;
}

/**
 * Returns the snapshot as it would be `seconds` (at least 0) later: bans have less time left, buckets have been idle
 * longer, and peers with an expired ban are left out, because a check would reset them. A snapshot without peers, such
 * as that of `PolicyLimiter`, is returned unchanged: it contains its own time. A RuleLimiter ages its snapshots itself:
 * only its ban policies say how.
 */
export function aged(snapshot: object, seconds: number): object {
  if ((snapshot as { limiter?: unknown }).limiter === 'RuleLimiter') {
    return { ...snapshot, ageSeconds: seconds };
  }
  const { peers, digests } = snapshot as { peers?: unknown; digests?: unknown };
  if (!Array.isArray(peers)) return snapshot;
  const older = peers
    .filter((peer) => !hasExpiredBan(peer, seconds))
    .map((peer) => olderPeer(peer, seconds));
  if (!Array.isArray(digests)) return { ...snapshot, peers: older };
  return { ...snapshot, peers: older, digests: digests.map((group) => olderGroup(group, seconds)) };
}

function olderPeer(peer: AgingPeer | null, seconds: number): unknown {
  if (typeof peer !== 'object' || peer === null) return peer;
  const { banSecondsLeft, idleSeconds, bucket } = peer;
  return {
    ...peer,
    banSecondsLeft: plus(banSecondsLeft, -seconds),
    idleSeconds: plus(idleSeconds, seconds),
    ...(isObject(bucket) && {
      bucket: { ...bucket, idleSeconds: plus(bucket['idleSeconds'], seconds) },
    }),
  };
}

/** Ages a digest. A row holds the digest, idle seconds, tokens, and seconds since the last refill. */
function olderGroup(group: unknown, seconds: number): unknown {
  if (!isObject(group) || !Array.isArray(group['peers'])) return group;
  const peers = group['peers'].map((row) => {
    if (!Array.isArray(row)) return row;
    return row.map((value, i) => (i === 1 || i === 3 ? plus(value, seconds) : value));
  });
  return { ...group, peers };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function hasExpiredBan(peer: AgingPeer | null, seconds: number): boolean {
  const left = peer?.banSecondsLeft;
  return typeof left === 'number' && left <= seconds;
}

function plus(value: unknown, seconds: number): unknown {
  return typeof value === 'number' ? value + seconds : value;
}
