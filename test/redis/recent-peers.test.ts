// RecentPeers: which peers it remembers, and for how long.

import { describe, expect, it } from 'vitest';
import { RecentPeers } from '../../lib/redis/limit/recent-peers.js';

describe('RecentPeers', () => {
  it('remembers a peer for its seconds at least, and for twice as long at most', () => {
    const peers = new RecentPeers(10);
    expect([peers.add('p', 0), peers.add('p', 9.9), peers.add('q', 9.9)]).toEqual([
      ...[false, true, false],
    ]);
    expect(peers.add('q', 19.8)).toBe(true);
    expect(peers.add('p', 40)).toBe(false);
  });

  // Of these names FNV-1a, which routes peers to shards, has the same low 15 bits whatever its initial value: a table
  // indexed by them without a secret holds one of them.
  it('remembers names together that are chosen to collide', () => {
    const peers = new RecentPeers(10);
    const names = Array.from({ length: 64 }, (_, n) =>
      Array.from({ length: 6 }, (_, bit) => ((n >> bit) & 1 ? '\u8061' : 'a')).join(''),
    );
    for (const name of names) peers.add(name, 0);
    const remembered = names.filter((name) => peers.add(name, 1));
    // Five of them in one of 8,192 sets of four: a chance of 1 in a billion.
    expect(remembered).toHaveLength(names.length);
  });
});
