// Metrics of limiters in this process, read by their public methods. A RuleLimiter has metrics by scope and by rule; no
// metric has a key.

import { ifKnown, type ObservableLimiter, statsOf } from '../limiters/stats.js';
import { isRules, type ObservableRules } from '../rules/observable.js';
import type { RuleCounts, RuleStats } from '../rules/types.js';
import { type Definitions, type Labels, plain } from './definitions.js';

/** The statistics of a table of peers: that of a limiter, or of one scope of a RuleLimiter. */
interface TableStats {
  readonly peers: number;
  readonly banned: number;
  readonly totalViolations: number;
  readonly bansBegun: number;
  readonly evictions: number;
  readonly lossyEvictions: number;
  readonly refusedNewcomers: number;
  readonly memoryBytes?: number | undefined;
}

export type Labeled<Stats> = readonly [labels: Labels, stats: Stats];

/** What a scrape reads of one limiter. */
export interface Reading {
  readonly checks: readonly Labeled<Readonly<Record<string, number>>>[];
  readonly tables: readonly Labeled<TableStats>[];
  readonly rules: readonly Labeled<RuleCounts>[];
}

export const CHECKS: Definitions<Readonly<Record<string, number>>> = {
  counters: [
    {
      name: 'checks_total',
      help: 'Checks by verdict: by key, of opened peers and of groups.',
      labels: ['verdict'],
      values: (verdicts) =>
        Object.entries(verdicts).map(([verdict, total]) => [{ verdict }, total]),
    },
  ],
  gauges: [],
};

export const TABLES: Definitions<TableStats> = {
  counters: [
    {
      name: 'bans_total',
      help: 'Bans begun.',
      labels: ['scope'],
      values: ({ bansBegun }) => plain(bansBegun),
    },
    {
      name: 'evictions_total',
      help: 'Records evicted for maxPeers; a lossy eviction discards violations or spent tokens.',
      labels: ['scope', 'lossy'],
      values: ({ evictions, lossyEvictions }) => [
        [{ lossy: 'true' }, lossyEvictions],
        [{ lossy: 'false' }, evictions - lossyEvictions],
      ],
    },
    {
      name: 'refused_newcomers_total',
      help: 'Checks of new peers refused because the table was full.',
      labels: ['scope'],
      values: ({ refusedNewcomers }) => plain(refusedNewcomers),
    },
  ],
  gauges: [
    {
      name: 'tracked_peers',
      help: 'Peers in the table.',
      labels: ['scope'],
      values: ({ peers }) => plain(peers),
    },
    {
      name: 'banned_peers',
      help: 'Bans in force.',
      labels: ['scope'],
      values: ({ banned }) => plain(banned),
    },
    {
      name: 'violations',
      help: 'Violations of the peers in the table.',
      labels: ['scope'],
      values: ({ totalViolations }) => plain(totalViolations),
    },
    {
      name: 'table_bytes',
      help: 'Bytes of the peer tables; only the native engine reports them.',
      labels: ['scope'],
      values: ({ memoryBytes }) => (memoryBytes === undefined ? [] : plain(memoryBytes)),
    },
  ],
};

export const RULES: Definitions<RuleCounts> = {
  counters: [
    {
      name: 'rule_checks_total',
      help: 'Checks that asked the rule.',
      labels: ['scope', 'rule'],
      values: ({ checked }) => plain(checked),
    },
    {
      name: 'rule_refused_total',
      help: 'Checks that the rule refused.',
      labels: ['scope', 'rule'],
      values: ({ refused }) => plain(refused),
    },
    {
      name: 'rule_dry_run_refused_total',
      help: 'Checks that the rule would have refused, on dry run.',
      labels: ['scope', 'rule'],
      values: ({ dryRunRefused }) => plain(dryRunRefused),
    },
  ],
  gauges: [],
};

/** Reads a limiter; null if its clock throws. */
export function readLimiter([name, limiter]: readonly [
  string,
  ObservableLimiter | ObservableRules,
]): Reading | null {
  return ifKnown(() =>
    isRules(limiter) ? rulesReading(name, limiter.getStats()) : tableReading(name, limiter),
  );
}

function tableReading(limiter: string, observed: ObservableLimiter): Reading {
  const stats = statsOf(observed);
  return {
    checks: [[{ limiter }, stats.verdicts]],
    tables: [[{ limiter }, { ...stats, peers: stats.trackedPeers }]],
    rules: [],
  };
}

function rulesReading(limiter: string, { outcomes, scopes, rules }: RuleStats): Reading {
  return {
    checks: [[{ limiter }, outcomes]],
    tables: Object.entries(scopes).map(([scope, stats]) => [
      { limiter, scope },
      { ...stats, banned: stats.bans },
    ]),
    rules: Object.entries(rules).map(([rule, counts]) => [
      { limiter, scope: counts.scope, rule },
      counts,
    ]),
  };
}
