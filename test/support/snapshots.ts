// What two snapshots have in common, although each limiter has a secret of its own.

import type { LimiterSnapshot } from 'relay-limiter';

/** A snapshot without secrets and digests: what it says under them, in an order of its own. */
export function comparable({ digests, ...rest }: LimiterSnapshot): unknown {
  const said = digests.flatMap(({ peers }) =>
    peers.map(([, ...numbers]) => JSON.stringify(numbers)),
  );
  return { ...rest, digests: said.sort() };
}

/** Peers of a snapshot, by key and under digests. */
export function countOf({ peers, digests }: LimiterSnapshot): number {
  return digests.reduce((sum, group) => sum + group.peers.length, peers.length);
}

/** The snapshot after a round trip through the JSON of a file. */
export function written(snapshot: LimiterSnapshot): LimiterSnapshot {
  return JSON.parse(JSON.stringify(snapshot));
}
