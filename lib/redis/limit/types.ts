// The events and the statistics of a SharedRateLimiter.

import type { StateChange, StoreStats } from '../store/shard-health.js';

/**
 * The events of a `SharedRateLimiter`. An exception of a listener becomes an uncaught exception and changes no
 * verdict.
 */
export interface SharedRateLimiterEvents {
  /** The store, or a shard of a cluster, has stopped answering or answers again. */
  state: [change: StateChange];
  /**
   * The store refuses the key of one peer because it holds something else. A name of more than 128 UTF-16 code units is
   * given as its digest.
   */
  failure: [failure: { readonly key: string; readonly error: Error }];
  /** A process has called `update`, and this one has followed. */
  limit: [
    limit: {
      readonly rateLimit: number;
      readonly burstLimit: number;
      readonly disconnectThreshold: number | null;
    },
  ];
}

/** What `SharedRateLimiter.getStats` returns. */
export interface SharedStats {
  /** Peers kept in this process. */
  trackedPeers: number;
  /** Verdicts of this process so far. */
  verdicts: { allow: number; delay: number; disconnect: number };
  /** The number of those verdicts that the failure policy decided. */
  fallbackVerdicts: number;
  /** The number of those verdicts that were DELAY because the store had more calls than it answers in time. */
  overloadVerdicts: number;
  /** Unspent tokens that are on lease to this process. */
  leasedTokens: number;
  /** Peers evicted because there were `maxPeers`. The unspent tokens of their leases returned to the store. */
  evictions: number;
  /** Verdicts of all processes, as of the last five seconds; null before the first report, and in mode `local`. */
  fleetVerdicts: { allow: number; delay: number; disconnect: number } | null;
  /** In mode `local` the state is `none`, and there is one node. */
  store: StoreStats<'up' | 'down' | 'none'>;
}

/** What `SharedRateLimiter.getFleetStats` returns: what all processes with the same `prefix` have done. */
export interface FleetStats {
  /** Processes last seen that share the limit, with this one. */
  nodes: number;
  /** Verdicts of all processes, also of those that have ended. They count from 0 again if the store has lost its data. */
  verdicts: { allow: number; delay: number; disconnect: number };
  /** The number of those verdicts that the failure policies decided. */
  fallbackVerdicts: number;
  /** The number of those verdicts that were DELAY because the store had more calls than it answers in time. */
  overloadVerdicts: number;
  /** The peers that were refused most, at most ten, the worst one first. */
  offenders: FleetOffender[];
}

/** A peer that processes have refused. */
export interface FleetOffender {
  /** The peer's key. A key of more than 128 UTF-16 code units is given as its digest. */
  readonly key: string;
  /**
   * Checks of the last five to ten minutes that processes refused, by whatever reason; not those that `check` delayed only to
   * ask the store. At least so many: a process counts about a hundred peers, and reports the ten that it refused most.
   */
  readonly refusals: number;
}
