// Resident bytes per peer, as the system counts them: tables, keys and the allocator's overhead. Also what remains of
// them after all peers are removed.

import { setTimeout } from 'node:timers/promises';
import { COMPLETE, complete, proven, requirePeers } from '../contestants.js';
import { KEY_LENGTHS, peerKey } from '../keys.js';
import type { Case, Round } from './case.js';

const SMALLEST = 1_000_000;
const LARGEST = 10_000_000;
// The ratio of one size to the previous one, small enough to see each doubling of a table.
const STEP = 1.1;

export const memory: Case[] = KEY_LENGTHS.map((length) => ({
  name: `memory-${length}`,
  title: `resident bytes per peer, keys of ${length} characters, worst size from 1 to 10 million`,
  sizes: [LARGEST],
  contestants: () => COMPLETE,
  rounds: 1,
  fresh: true,
  // A young generation of constant size: its growth would be measured too.
  flags: ['--min-semi-space-size=1', '--max-semi-space-size=1'],
  metrics: [
    { name: 'worst', unit: 'B', label: 'per peer' },
    { name: 'last', unit: 'B', label: 'at 10 million' },
    { name: 'left', unit: 'MB', label: 'left after cleanup' },
  ],
  prepare: async (contestant) => {
    // Warms up: compiled code and space for garbage must be allocated before the first measurement.
    const warm = await proven(contestant, 1);
    for (let n = 0; n < SMALLEST; n += 1) warm.check(peerKey(n, length).slice(0, 1));
    return async (): Promise<Round> => {
      const limiter = complete(contestant, 1);
      const before = await resident();
      const curve: [number, number][] = [];
      let due = SMALLEST;
      for (let n = 1; n <= LARGEST; n += 1) {
        limiter.check(peerKey(n, length));
        if (n !== due && n !== LARGEST) continue;
        curve.push([n, ((await resident()) - before) / n]);
        due = Math.round(due * STEP);
      }
      requirePeers(limiter, LARGEST);
      limiter.cleanupOldPeers(-1);
      requirePeers(limiter, 0);
      const figures = {
        worst: Math.max(...curve.map(([, bytes]) => bytes)),
        last: curve.at(-1)?.[1] ?? Number.NaN,
        left: ((await resident()) - before) / 1e6,
      };
      return { figures, curve };
    };
  },
}));

/** Returns the resident bytes after garbage has been returned to the system, which continues in the background. */
async function resident(): Promise<number> {
  globalThis.gc?.();
  await setTimeout(50);
  globalThis.gc?.();
  await setTimeout(50);
  return process.memoryUsage.rss();
}
