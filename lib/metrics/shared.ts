// Metrics of the shared limits and bans of relay-limiter/redis, read by their getStats(). This file does not import
// relay-limiter/redis, so that metrics do not load it.

import { invalidValue, show } from '../common/errors.js';
import { hasMethods, isRecord } from '../common/kinds.js';
import { type Definitions, plain } from './definitions.js';

/** The statistics of a `SharedRateLimiter` or a `SharedRuleLimiter` that have metrics. */
export interface SharedLimitFigures {
  /** Of a SharedRateLimiter; metrics of `limiters` have the peers of each scope of a SharedRuleLimiter. */
  readonly trackedPeers?: number;
  readonly verdicts?: Readonly<Record<string, number>>;
  /** Of a SharedRuleLimiter. */
  readonly outcomes?: Readonly<Record<string, number>>;
  readonly fallbackVerdicts: number;
  readonly overloadVerdicts: number;
  readonly leasedTokens: number;
  readonly evictions?: number;
  /** Verdicts of all processes of a SharedRateLimiter; null while they are unknown. */
  readonly fleetVerdicts?: Readonly<Record<string, number>> | null;
  /** What all processes of a SharedRuleLimiter have done; null while it is unknown. */
  readonly fleet?: {
    readonly outcomes: Readonly<Record<string, number>>;
    readonly bansBegun: number;
  } | null;
  readonly store: {
    readonly state: 'up' | 'down' | 'none';
    readonly nodes: number;
    readonly calls: number;
    readonly beats: number;
    readonly failures: number;
    readonly downs: number;
    readonly inFlight: number;
  };
}

/** The statistics of `SharedBans` that have metrics. */
export interface SharedBanFigures {
  readonly bans: number;
  readonly state: 'up' | 'down';
  readonly sent: number;
  readonly received: number;
  readonly waiting: number;
}

/** The statistics of a shared limit or of shared bans that have metrics. */
export type SharedFigures = SharedLimitFigures | SharedBanFigures;

/** A `SharedRateLimiter`, a `SharedRuleLimiter` or `SharedBans`. */
export interface WatchedShared {
  /** Returns the statistics of this process. */
  getStats(): SharedFigures;
}

/** Shared limits and bans by the value of their label `limiter`. */
export type NamedShared = Readonly<Record<string, WatchedShared>>;

function byVerdict(totals: Readonly<Record<string, number>> = {}) {
  return Object.entries(totals).map(([verdict, total]): [{ verdict: string }, number] => [
    { verdict },
    total,
  ]);
}

/** Nothing for statistics that the limiter does not have. */
function plainIf(value: number | undefined) {
  return value === undefined ? [] : plain(value);
}

/** The metrics of shared limits. @internal */
export const LIMITS: Definitions<SharedLimitFigures> = {
  counters: [
    {
      name: 'shared_checks_total',
      help: 'Checks of a shared limit in this process, by verdict.',
      labels: ['verdict'],
      values: ({ verdicts, outcomes }) => byVerdict(verdicts ?? outcomes),
    },
    {
      name: 'fleet_checks_total',
      help: 'Checks of a shared limit in all processes, by verdict: the same in each process.',
      labels: ['verdict'],
      values: ({ fleetVerdicts, fleet }) => byVerdict(fleetVerdicts ?? fleet?.outcomes),
    },
    {
      name: 'fleet_bans_begun_total',
      help: 'Bans that checks of a SharedRuleLimiter have begun in all processes: the same in each process.',
      values: ({ fleet }) => plainIf(fleet?.bansBegun),
    },
    {
      name: 'shared_fallback_checks_total',
      help: 'Checks of a shared limit that the failure policy decided.',
      values: ({ fallbackVerdicts }) => plain(fallbackVerdicts),
    },
    {
      name: 'shared_overload_checks_total',
      help: 'Checks of a shared limit that were delayed because the store had too many calls.',
      values: ({ overloadVerdicts }) => plain(overloadVerdicts),
    },
    {
      name: 'shared_evictions_total',
      help: 'Peers evicted for maxPeers; their unspent tokens return to the store.',
      values: ({ evictions }) => plainIf(evictions),
    },
    {
      name: 'store_calls_total',
      help: 'Calls of the store: for a peer, or as a heartbeat.',
      labels: ['kind'],
      values: ({ store }) => [
        [{ kind: 'peer' }, store.calls],
        [{ kind: 'beat' }, store.beats],
      ],
    },
    {
      name: 'store_failures_total',
      help: 'Calls of the store that timed out or failed.',
      values: ({ store }) => plain(store.failures),
    },
    {
      name: 'store_downs_total',
      help: 'How many times the store, or one of its shards, became unavailable.',
      values: ({ store }) => plain(store.downs),
    },
  ],
  gauges: [
    {
      name: 'store_up',
      help: '1 if every shard of the store responds, else 0.',
      values: ({ store }) => (store.state === 'none' ? [] : plain(Number(store.state === 'up'))),
    },
    {
      name: 'store_nodes',
      help: 'Live processes that share the limit, including this one.',
      values: ({ store }) => plain(store.nodes),
    },
    {
      name: 'store_calls_in_flight',
      help: 'Calls of the store that are pending.',
      values: ({ store }) => plain(store.inFlight),
    },
    {
      name: 'leased_tokens',
      help: 'Leased tokens that this process has not spent.',
      values: ({ leasedTokens }) => plain(leasedTokens),
    },
    {
      name: 'shared_tracked_peers',
      help: 'Peers of a shared limit in the table of this process.',
      values: ({ trackedPeers }) => plainIf(trackedPeers),
    },
  ],
};

/** The metrics of shared bans. @internal */
export const BANS: Definitions<SharedBanFigures> = {
  counters: [
    {
      name: 'shared_bans_told_total',
      help: 'Bans sent to other processes and received from them.',
      labels: ['direction'],
      values: ({ sent, received }) => [
        [{ direction: 'sent' }, sent],
        [{ direction: 'received' }, received],
      ],
    },
  ],
  gauges: [
    {
      name: 'shared_bans',
      help: 'Shared bans in force in this process.',
      values: ({ bans }) => plain(bans),
    },
    {
      name: 'shared_bans_waiting',
      help: 'Bans that are not yet sent to other processes.',
      values: ({ waiting }) => plain(waiting),
    },
    {
      name: 'shared_bans_up',
      help: '1 if this process receives bans of other processes, else 0.',
      values: ({ state }) => plain(Number(state === 'up')),
    },
  ],
};

/** The statistics of a shared limit; null for shared bans. */
export function limitStats(shared: WatchedShared): SharedLimitFigures | null {
  const stats = shared.getStats();
  return 'store' in stats ? stats : null;
}

/** The statistics of shared bans; null for a shared limit. */
export function bansStats(shared: WatchedShared): SharedBanFigures | null {
  const stats = shared.getStats();
  return 'store' in stats ? null : stats;
}

/**
 * Returns the entries of the option `shared`.
 * @throws `ERR_LIMITER_OPTION` unless it is an object of shared limits and bans.
 */
export function namedShared(given: unknown = {}): [name: string, shared: WatchedShared][] {
  if (!isRecord(given)) {
    throw invalidValue(
      'ERR_LIMITER_OPTION',
      'shared',
      given,
      'an object of shared limiters by name',
    );
  }
  for (const [name, shared] of Object.entries(given)) {
    if (isShared(shared)) continue;
    const accepted = 'a SharedRateLimiter, SharedRuleLimiter or SharedBans';
    throw invalidValue('ERR_LIMITER_OPTION', `shared[${show(name)}]`, shared, accepted);
  }
  return Object.entries(given) as [string, WatchedShared][];
}

function isShared(value: unknown): boolean {
  // A local limiter has getStats() too, but no on().
  return hasMethods(value, 'getStats', 'on');
}
