// What time does to a snapshot of peers while no process runs.

/** As far as age is concerned: the rest is for `restore` to judge. */
interface AgingPeer {
  readonly banSecondsLeft?: unknown;
  readonly idleSeconds?: unknown;
  readonly bucket?: unknown;
}

/**
 * The snapshot `seconds` (at least 0) later: bans have so much less left, buckets were refilled so much
 * longer ago, and peers whose ban is over are left out, as a check would forgive them. A snapshot that has no
 * peers, as of `PolicyLimiter`, counts its time itself.
 */
export function aged(snapshot: object, seconds: number): object {
  const { peers, digests } = snapshot as { peers?: unknown; digests?: unknown };
  if (!Array.isArray(peers)) return snapshot;
  const older = peers
    .filter((peer) => !isOver(peer, seconds))
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

/** Rows of a digest, seconds idle, tokens, and seconds since those were refilled. */
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

function isOver(peer: AgingPeer | null, seconds: number): boolean {
  const left = peer?.banSecondsLeft;
  return typeof left === 'number' && left <= seconds;
}

function plus(value: unknown, seconds: number): unknown {
  return typeof value === 'number' ? value + seconds : value;
}
