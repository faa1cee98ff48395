// The longest pause while a table grows: it blocks a relay's event loop.

import { COMPLETE, complete, proven, requirePeers } from '../contestants.js';
import { floor } from '../floor.js';
import { Peers } from '../keys.js';
import type { Case, Round } from './case.js';

// The machine itself sometimes stalls a loop. To measure this, blocks of checks of known peers are timed in the same way,
// between the blocks of new peers.
const BLOCK = 10_000;

export const growth: Case = {
  name: 'growth',
  title: 'longest check while peers arrive (the third longest)',
  sizes: [10_000, 100_000, 1_000_000, 10_000_000],
  contestants: () => COMPLETE,
  rounds: 3,
  fresh: true,
  metrics: [
    { name: 'pause', unit: 'ms', label: 'new peer' },
    { name: 'control', unit: 'ms', label: 'known peer', aside: true },
    { name: 'longest', unit: 'ms', label: 'longest of all' },
    { name: 'total', unit: 's', label: 'total' },
  ],
  prepare: async (contestant, size) => {
    const peers = new Peers(size, size);
    const keys = peers.sample;
    const limiter = await proven(contestant, 1e9);
    // Warms up: the code must be compiled before it is timed.
    timeChecks(complete(contestant, 1e9), new Peers(20_000).sample, 0, 20_000, new Longest());
    globalThis.gc?.();
    return (): Round => {
      const inserts = new Longest();
      const controls = new Longest();
      for (let from = 0; from < size; from += BLOCK) {
        timeChecks(limiter, keys, from, from + BLOCK, inserts);
        const known = Math.floor(Math.random() * (from + 1));
        timeChecks(limiter, keys, known, known + BLOCK, controls);
      }
      requirePeers(limiter, size);
      const figures = {
        pause: inserts.third,
        control: controls.third,
        longest: inserts.first,
        total: inserts.total / 1000,
      };
      return { figures };
    };
  },
};

/** Keeps the three longest of many times, in milliseconds. */
class Longest {
  first = 0;
  second = 0;
  third = 0;
  total = 0;

  add(time: number): void {
    const [first, second, third] = [time, this.first, this.second, this.third].sort(
      (a, b) => b - a,
    );
    this.first = first as number;
    this.second = second as number;
    this.third = third as number;
  }
}

function timeChecks(
  limiter: { check(key: string): unknown },
  keys: string[],
  from: number,
  to: number,
  longest: Longest,
): void {
  const { tick, time } = floor();
  const end = Math.min(to, keys.length);
  tick();
  const start = time[0] as number;
  let before = start;
  for (let i = from; i < end; i += 1) {
    limiter.check(keys[i] as string);
    tick();
    const now = time[0] as number;
    const taken = now - before;
    // Compared here, because each number passed to a function would be garbage.
    if (taken > longest.third) longest.add(taken);
    before = now;
  }
  longest.total += before - start;
}
