// Maintenance: cleanup, complete and in slices, and statistics.

import { COMPLETE, type Complete, isOurs, proven, requirePeers } from '../contestants.js';
import { Peers } from '../keys.js';
import { timeOf } from '../timing.js';
import type { Case, Round } from './case.js';

const BUDGET_MS = 0.5;
// One peer in 10 has broken a limit.
const VIOLATOR_INTERVAL = 10;
const NOBODY_IS_IDLE = 3600;
const EVERYBODY_IS_IDLE = -1;

export const upkeep: Case = {
  name: 'upkeep',
  title: `cleanup, and statistics with one violator in ${VIOLATOR_INTERVAL}`,
  sizes: [1_000_000, 10_000_000],
  contestants: () => COMPLETE,
  rounds: 7,
  fresh: false,
  metrics: [
    { name: 'stats', unit: 'ms', label: 'getStats' },
    { name: 'whole', unit: 'ms', label: 'complete cleanup' },
    { name: 'slice', unit: 'ms', label: `slice of ${BUDGET_MS} ms`, aside: true },
    { name: 'longest', unit: 'ms', label: 'longest slice' },
  ],
  prepare: async (contestant, size) => {
    const limiter = await withViolators(contestant, size);
    return (): Round => {
      const whole = timeOf(() => limiter.cleanupOldPeers(NOBODY_IS_IDLE));
      const stats = timeOf(() => limiter.getStats());
      requirePeers(limiter, size);
      if (limiter.getStats().totalViolations !== size / VIOLATOR_INTERVAL)
        throw new Error('it miscounts');
      // The plain Map has no cleanup in slices.
      const slices = isOurs(contestant) ? slicesOf(limiter, whole / BUDGET_MS) : [];
      const slice = slices[slices.length >> 1] ?? Number.NaN;
      return { figures: { stats, whole, slice, longest: slices.at(-3) ?? Number.NaN } };
    };
  },
};

export const flood: Case = {
  name: 'flood',
  title: `end of a flood: all peers are removed, one violator in ${VIOLATOR_INTERVAL} (the Map: at once)`,
  sizes: [1_000_000, 10_000_000],
  contestants: () => COMPLETE,
  rounds: 3,
  fresh: true,
  metrics: [
    { name: 'longest', unit: 'ms', label: `longest slice of ${BUDGET_MS} ms` },
    { name: 'slice', unit: 'ms', label: 'median slice', aside: true },
    { name: 'total', unit: 'ms', label: 'total' },
  ],
  prepare: async (contestant, size) => {
    const limiter = await withViolators(contestant, size);
    const limits = isOurs(contestant) ? { budgetMs: BUDGET_MS } : undefined;
    return (): Round => {
      const slices: number[] = [];
      let removed = 0;
      while (removed < size) {
        slices.push(
          timeOf(() => {
            removed += limiter.cleanupOldPeers(EVERYBODY_IS_IDLE, limits);
          }),
        );
      }
      requirePeers(limiter, 0);
      const total = slices.reduce((sum, slice) => sum + slice, 0);
      slices.sort((a, b) => a - b);
      const longest = slices.at(-3) ?? total;
      return { figures: { longest, slice: slices[slices.length >> 1] ?? Number.NaN, total } };
    };
  },
};

/** Creates a limiter with `size` peers, of which one in 10 has broken the limit. */
async function withViolators(contestant: string, size: number): Promise<Complete> {
  const peers = new Peers(size);
  const limiter = await proven(contestant, 1);
  for (let n = 0; n < size; n += 1) {
    limiter.check(peers.key(n));
    if (n % VIOLATOR_INTERVAL === 0) limiter.check(peers.key(n));
  }
  requirePeers(limiter, size);
  return limiter;
}

/** Returns the durations of `count` slices, in ascending order. */
function slicesOf(limiter: Complete, count: number): number[] {
  const slices: number[] = [];
  for (let i = 0; i < Math.max(20, count); i += 1) {
    slices.push(timeOf(() => limiter.cleanupOldPeers(NOBODY_IS_IDLE, { budgetMs: BUDGET_MS })));
  }
  return slices.sort((a, b) => a - b);
}
