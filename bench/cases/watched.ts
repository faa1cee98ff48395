// The cost of observability: a check while metrics are collected or a dashboard runs, and one snapshot or statistics of a
// limiter with very many bans.

import client, { Registry } from 'prom-client';
import { type EngineName, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { createDashboard } from 'relay-limiter/dashboard';
import { collectMetrics } from 'relay-limiter/metrics';
import { time, timeOf } from '../timing.js';
import type { Case, Round } from './case.js';

// A burst that no measurement uses up.
const LARGE_BURST = 1e9;
const BATCH = 1_000;

/** The observers. The second repeats the first and so shows the noise of the measurement. */
const WATCHERS: Readonly<Record<string, (limiter: RateLimiter) => void>> = {
  nobody: () => {},
  'nobody, again': () => {},
  dashboard: (limiter) => void createDashboard({ limiters: { limiter } }),
  metrics: (limiter) => {
    collectMetrics({ client, register: new Registry(), limiters: { limiter } });
  },
};

export const watched: Case = {
  name: 'watched',
  title: 'check by key, allowed, native, by watcher',
  sizes: [1_000, 100_000],
  contestants: () => Object.keys(WATCHERS),
  rounds: 7,
  fresh: false,
  metrics: [{ name: 'ns', unit: 'ns', label: 'per check' }],
  async prepare(contestant, size) {
    const watch = WATCHERS[contestant];
    if (watch === undefined) throw new Error(`no such watcher: ${contestant}`);
    const limiter = new RateLimiter({ engine: 'native', burstLimit: LARGE_BURST });
    watch(limiter);
    const keys = Array.from({ length: size }, (_, i) => `connection-${i}`);
    let next = 0;
    let refused = 0;
    const work = () => {
      for (let i = 0; i < BATCH; i += 1) {
        if (limiter.check(keys[next] as string)[0] !== 'allow') refused += 1;
        next = next + 1 === size ? 0 : next + 1;
      }
    };
    for (let i = 0; i < size; i += BATCH) work();
    return (): Round => {
      const ns = time(work, BATCH);
      if (refused > 0) throw new Error(`${refused} checks were refused`);
      return { figures: { ns } };
    };
  },
};

const ENGINES: Readonly<Record<string, EngineName>> = { native: 'native', TypeScript: 'js' };

export const bans: Case = {
  name: 'bans',
  title: 'reading a limiter with many bans in force',
  sizes: [10_000, 100_000, 1_000_000],
  contestants: () => Object.keys(ENGINES),
  rounds: 5,
  fresh: false,
  metrics: [
    { name: 'overview', unit: 'ms', label: 'a sample: overview and number of bans' },
    { name: 'longest', unit: 'ms', label: 'the hundred longest bans' },
    { name: 'statistics', unit: 'ms', label: 'statistics' },
    { name: 'snapshot', unit: 'ms', label: 'a snapshot' },
  ],
  async prepare(contestant, size) {
    const limiter = new OrderbookRateLimiter({
      engine: ENGINES[contestant],
      violationBanThreshold: 0,
      maxPeers: Infinity,
    });
    for (let n = 0; n < size; n += 1) limiter.check(`nick-${n}`);
    return (): Round => {
      let found = 0;
      const overview = timeOf(() => {
        limiter.getOverview();
        found = limiter.getBans(0).count;
      });
      const longest = timeOf(() => {
        found += limiter.getBans(100).count;
      });
      const statistics = timeOf(() => {
        found += limiter.getStatistics().bannedPeers.length;
      });
      const snapshot = timeOf(() => {
        found += limiter.snapshot().peers.length;
      });
      if (found !== 4 * size) throw new Error(`it finds ${found} of ${4 * size} bans`);
      return { figures: { overview, longest, statistics, snapshot } };
    };
  },
};
