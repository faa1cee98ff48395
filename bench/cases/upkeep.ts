// What must be done now and then: cleanup, whole and in slices, and statistics.

import { COMPLETE, type Complete, isOurs, proven, requirePeers } from '../contestants.js';
import { Peers } from '../keys.js';
import type { Case, Round } from './case.js';

const BUDGET_MS = 0.5;
// Of how many peers one has broken a limit.
const VIOLATOR = 10;
const NOBODY_IS_IDLE = 3600;

export const upkeep: Case = {
  name: 'upkeep',
  title: `cleanup, and statistics with one violator in ${VIOLATOR}`,
  sizes: [1_000_000, 10_000_000],
  contestants: () => COMPLETE,
  rounds: 7,
  fresh: false,
  metrics: [
    { name: 'stats', unit: 'ms', label: 'getStats' },
    { name: 'whole', unit: 'ms', label: 'whole cleanup' },
    { name: 'slice', unit: 'ms', label: `slice of ${BUDGET_MS} ms`, aside: true },
    { name: 'longest', unit: 'ms', label: 'longest slice' },
  ],
  prepare: async (contestant, size) => {
    const peers = new Peers(size);
    const limiter = await proven(contestant, 1);
    for (let n = 0; n < size; n += 1) {
      limiter.check(peers.key(n));
      if (n % VIOLATOR === 0) limiter.check(peers.key(n));
    }
    return (): Round => {
      const whole = timeOf(() => limiter.cleanupOldPeers(NOBODY_IS_IDLE));
      const stats = timeOf(() => limiter.getStats());
      requirePeers(limiter, size);
      if (limiter.getStats().totalViolations !== size / VIOLATOR) throw new Error('it miscounts');
      // A Map is walked through whole.
      const slices = isOurs(contestant) ? slicesOf(limiter, whole / BUDGET_MS) : [];
      const slice = slices[slices.length >> 1] ?? Number.NaN;
      return { figures: { stats, whole, slice, longest: slices.at(-3) ?? Number.NaN } };
    };
  },
};

/** How long each of some slices took, in rising order. */
function slicesOf(limiter: Complete, count: number): number[] {
  const slices: number[] = [];
  for (let i = 0; i < Math.max(20, count); i += 1) {
    slices.push(timeOf(() => limiter.cleanupOldPeers(NOBODY_IS_IDLE, { budgetMs: BUDGET_MS })));
  }
  return slices.sort((a, b) => a - b);
}

function timeOf(work: () => unknown): number {
  const before = performance.now();
  work();
  return performance.now() - before;
}
