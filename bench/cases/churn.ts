// Peers that come and go while very many stay: what the garbage collector makes of them.

import { PerformanceObserver } from 'node:perf_hooks';
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';
import { COMPLETE, proven, requirePeers } from '../contestants.js';
import { peerKey } from '../keys.js';
import type { Case, Round } from './case.js';

// Peers that are replaced in a round, and between two turns of the event loop.
const REPLACED = 2_000_000;
const TURN = 10_000;
// In this time an observer has heard of all collections.
const HEARING_MS = 50;

export const churn: Case = {
  name: 'churn',
  title: 'garbage collection while two million peers are replaced',
  sizes: [1_000_000],
  contestants: () => COMPLETE,
  rounds: 5,
  fresh: false,
  // About what V8 takes by itself; with more to spare it would put collections off.
  flags: ['--max-old-space-size=4096'],
  metrics: [
    { name: 'gc', unit: 'ms', label: 'collecting' },
    { name: 'longest', unit: 'ms', label: 'longest' },
    { name: 'total', unit: 'ms', label: 'all of it' },
  ],
  prepare: async (contestant, size) => {
    const limiter = await proven(contestant, 1e9);
    let newest = 0;
    for (; newest < size; newest += 1) limiter.check(peerKey(newest));
    const collections = collectionsHeard();
    return async (): Promise<Round> => {
      await pause(HEARING_MS);
      collections.length = 0;
      const started = performance.now();
      for (const end = newest + REPLACED; newest < end; newest += 1) {
        // Keys are made as they come, as they are off a socket: some of the garbage is theirs, and
        // the same for everybody.
        limiter.removePeer(peerKey(newest - size));
        limiter.check(peerKey(newest));
        if (newest % TURN === 0) await nextTurn();
      }
      const total = performance.now() - started;
      requirePeers(limiter, size);
      await pause(HEARING_MS);
      const gc = collections.reduce((sum, duration) => sum + duration, 0);
      return { figures: { gc, longest: Math.max(...collections, 0), total } };
    };
  },
};

/** How long each collection took, in milliseconds; grows as they are heard of. */
function collectionsHeard(): number[] {
  const durations: number[] = [];
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) durations.push(duration);
  }).observe({ entryTypes: ['gc'] });
  return durations;
}
