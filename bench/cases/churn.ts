// The cost of garbage collection while peers come and go in a table of very many peers.

import { PerformanceObserver } from 'node:perf_hooks';
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';
import { COMPLETE, proven, requirePeers } from '../contestants.js';
import { peerKey } from '../keys.js';
import type { Case, Round } from './case.js';

// Peers replaced per round, and per turn of the event loop.
const REPLACED_PEERS = 2_000_000;
const TURN = 10_000;
// After this time an observer has received all collections.
const OBSERVER_DELAY_MS = 50;

export const churn: Case = {
  name: 'churn',
  title: 'garbage collection while two million peers are replaced',
  sizes: [1_000_000],
  contestants: () => COMPLETE,
  rounds: 5,
  fresh: false,
  // Close to V8's default; with more memory V8 would postpone collections.
  flags: ['--max-old-space-size=4096'],
  metrics: [
    { name: 'gc', unit: 'ms', label: 'garbage collection' },
    { name: 'longest', unit: 'ms', label: 'longest collection' },
    { name: 'total', unit: 'ms', label: 'total' },
  ],
  prepare: async (contestant, size) => {
    const limiter = await proven(contestant, 1e9);
    let newest = 0;
    for (; newest < size; newest += 1) limiter.check(peerKey(newest));
    const collections = collectionsHeard();
    return async (): Promise<Round> => {
      await pause(OBSERVER_DELAY_MS);
      collections.length = 0;
      const started = performance.now();
      for (const end = newest + REPLACED_PEERS; newest < end; newest += 1) {
        // Keys are created on arrival, as from a socket. They are a part of the garbage, the same for all contestants.
        limiter.removePeer(peerKey(newest - size));
        limiter.check(peerKey(newest));
        if (newest % TURN === 0) await nextTurn();
      }
      const total = performance.now() - started;
      requirePeers(limiter, size);
      await pause(OBSERVER_DELAY_MS);
      const gc = collections.reduce((sum, duration) => sum + duration, 0);
      return { figures: { gc, longest: Math.max(...collections, 0), total } };
    };
  },
};

/** Returns a list of the durations of collections, in milliseconds. An observer appends to it. */
function collectionsHeard(): number[] {
  const durations: number[] = [];
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) durations.push(duration);
  }).observe({ entryTypes: ['gc'] });
  return durations;
}
