// Peers that come and go while very many stay: what the garbage collector makes of them.

import { PerformanceObserver } from 'node:perf_hooks';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { COMPLETE, complete } from '../contestants.js';
import { peerKey } from '../keys.js';
import type { Case, Round } from './case.js';

// Peers that are replaced in a round, and between two turns of the event loop.
const REPLACED = 1_000_000;
const TURN = 10_000;

export const churn: Case = {
  name: 'churn',
  title: 'garbage collection while a million peers are replaced',
  sizes: [1_000_000],
  contestants: () => COMPLETE,
  rounds: 5,
  fresh: false,
  metrics: [
    { name: 'gc', unit: 'ms', label: 'collecting' },
    { name: 'total', unit: 'ms', label: 'all of it' },
  ],
  prepare: async (contestant, size) => {
    const limiter = complete(contestant, 1e9);
    let oldest = 0;
    let newest = 0;
    for (; newest < size; newest += 1) limiter.check(peerKey(newest));
    let collecting = 0;
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) collecting += duration;
    }).observe({ entryTypes: ['gc'] });
    return async (): Promise<Round> => {
      // A relay's keys come from its sockets; that garbage is the same for everybody, and not counted.
      const coming = Array.from({ length: REPLACED }, (_, n) => peerKey(newest + n));
      const going = Array.from({ length: REPLACED }, (_, n) => peerKey(oldest + n));
      globalThis.gc?.();
      await nextTurn();
      collecting = 0;
      let total = 0;
      for (let from = 0; from < REPLACED; from += TURN) {
        const before = performance.now();
        for (let n = from; n < from + TURN; n += 1) {
          limiter.removePeer(going[n] as string);
          limiter.check(coming[n] as string);
        }
        total += performance.now() - before;
        await nextTurn();
      }
      oldest += REPLACED;
      newest += REPLACED;
      return { figures: { gc: collecting, total } };
    };
  },
};
