// What time does to a snapshot of peers while no process runs.

/** As far as age is concerned: the rest is for `restore` to judge. */
interface AgingPeer {
  readonly banSecondsLeft?: unknown;
  readonly idleSeconds?: unknown;
}

/**
 * The snapshot `seconds` (at least 0) later: bans have so much less left, and peers whose ban is over are
 * left out, as a check would forgive them. A snapshot that has no peers, as of `PolicyLimiter`, counts
 * its time itself.
 */
export function aged(snapshot: object, seconds: number): object {
  const { peers } = snapshot as { peers?: unknown };
  if (!Array.isArray(peers)) return snapshot;
  return { ...snapshot, peers: peers.filter((peer) => !isOver(peer, seconds)).map(older) };

  function older(peer: AgingPeer | null): unknown {
    if (typeof peer !== 'object' || peer === null) return peer;
    return {
      ...peer,
      banSecondsLeft: plus(peer.banSecondsLeft, -seconds),
      idleSeconds: plus(peer.idleSeconds, seconds),
    };
  }
}

function isOver(peer: AgingPeer | null, seconds: number): boolean {
  const left = peer?.banSecondsLeft;
  return typeof left === 'number' && left <= seconds;
}

function plus(value: unknown, seconds: number): unknown {
  return typeof value === 'number' ? value + seconds : value;
}
