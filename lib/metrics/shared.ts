// The metrics of limits and bans that processes share: of what relay-limiter/redis makes, known by what its
// getStats() tells.

import { refused, show } from '../common/errors.js';
import { hasMethods, isRecord } from '../common/kinds.js';
import { type Definitions, plain } from './definitions.js';

/** What a `SharedRateLimiter` tells. */
interface LimiterStats {
  readonly trackedPeers: number;
  readonly verdicts: Readonly<Record<string, number>>;
  readonly fallbackVerdicts: number;
  readonly leasedTokens: number;
  readonly evictions: number;
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

/** What `SharedBans` tell. */
interface BansStats {
  readonly bans: number;
  readonly state: 'up' | 'down';
  readonly sent: number;
  readonly received: number;
  readonly waiting: number;
}

export type SharedFigures = LimiterStats | BansStats;

/** A `SharedRateLimiter` or `SharedBans`. */
export interface WatchedShared {
  getStats(): SharedFigures;
}

/** What is shared, by the names that people are to read. */
export type NamedShared = Readonly<Record<string, WatchedShared>>;

export const LIMITS: Definitions<LimiterStats> = {
  counters: [
    {
      name: 'shared_checks_total',
      help: 'Checks of a shared limit in this process, by verdict.',
      labels: ['verdict'],
      values: ({ verdicts }) =>
        Object.entries(verdicts).map(([verdict, total]) => [{ verdict }, total]),
    },
    {
      name: 'shared_fallback_checks_total',
      help: 'Of the checks, those that the failure policy decided.',
      values: ({ fallbackVerdicts }) => plain(fallbackVerdicts),
    },
    {
      name: 'shared_evictions_total',
      help: 'Peers given up to make room; what they had left went back to the store.',
      values: ({ evictions }) => plain(evictions),
    },
    {
      name: 'store_calls_total',
      help: 'Calls of the store: for a peer, or as a sign of life.',
      labels: ['kind'],
      values: ({ store }) => [
        [{ kind: 'peer' }, store.calls],
        [{ kind: 'beat' }, store.beats],
      ],
    },
    {
      name: 'store_failures_total',
      help: 'Calls of the store without an answer in time, or with an error.',
      values: ({ store }) => plain(store.failures),
    },
    {
      name: 'store_downs_total',
      help: 'How often the store, or a part of it, went down.',
      values: ({ store }) => plain(store.downs),
    },
  ],
  gauges: [
    {
      name: 'store_up',
      help: 'Whether all of the store answers: 1, or 0.',
      values: ({ store }) => (store.state === 'none' ? [] : plain(Number(store.state === 'up'))),
    },
    {
      name: 'store_nodes',
      help: 'Processes last seen that share the limit, this one included.',
      values: ({ store }) => plain(store.nodes),
    },
    {
      name: 'store_calls_in_flight',
      help: 'Calls that the store has not answered yet.',
      values: ({ store }) => plain(store.inFlight),
    },
    {
      name: 'leased_tokens',
      help: 'Tokens that this process holds and has not spent.',
      values: ({ leasedTokens }) => plain(leasedTokens),
    },
    {
      name: 'shared_tracked_peers',
      help: 'Peers of a shared limit kept in this process.',
      values: ({ trackedPeers }) => plain(trackedPeers),
    },
  ],
};

export const BANS: Definitions<BansStats> = {
  counters: [
    {
      name: 'shared_bans_told_total',
      help: 'Bans told to other processes, and heard from them.',
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
      help: 'Shared bans in force that this process knows of.',
      values: ({ bans }) => plain(bans),
    },
    {
      name: 'shared_bans_waiting',
      help: 'Bans still to be told to other processes.',
      values: ({ waiting }) => plain(waiting),
    },
    {
      name: 'shared_bans_up',
      help: 'Whether bans of other processes arrive: 1, or 0.',
      values: ({ state }) => plain(Number(state === 'up')),
    },
  ],
};

/** The figures of a shared limit; null of bans. */
export function limitFigures(shared: WatchedShared): LimiterStats | null {
  const figures = shared.getStats();
  return 'store' in figures ? figures : null;
}

/** The figures of shared bans; null of a limit. */
export function banFigures(shared: WatchedShared): BansStats | null {
  const figures = shared.getStats();
  return 'store' in figures ? null : figures;
}

/** Throws `ERR_LIMITER_OPTION` unless `given` holds shared limiters and bans by their names, if anything. */
export function namedShared(given: unknown = {}): [name: string, shared: WatchedShared][] {
  if (!isRecord(given)) {
    throw refused(
      'ERR_LIMITER_OPTION',
      'shared',
      given,
      'an object of shared limiters by their names',
    );
  }
  for (const [name, shared] of Object.entries(given)) {
    if (isShared(shared)) continue;
    const accepted = 'a SharedRateLimiter or SharedBans';
    throw refused('ERR_LIMITER_OPTION', `shared[${show(name)}]`, shared, accepted);
  }
  return Object.entries(given) as [string, WatchedShared][];
}

function isShared(value: unknown): boolean {
  // A limiter of one process has statistics as well, and no events.
  return hasMethods(value, 'getStats', 'on');
}
