// What a SharedRuleLimiter reports: its events and its statistics.

import type { RuleStats } from '../../rules/types.js';
import type { StateChange, StoreStats } from '../store/shard-health.js';

/** The events of a `SharedRuleLimiter`. An exception of a listener becomes an uncaught exception and changes no verdict. */
export interface SharedRuleLimiterEvents {
  /** The store has stopped answering or answers again. */
  state: [change: StateChange];
  /** Bans of other processes arrive (`up`) or do not arrive (`down`). */
  bans: [change: { readonly state: 'up' | 'down'; readonly reason?: Error }];
  /** A process has called `update`, and this one has followed. */
  rules: [];
  /** The store refuses a key because it holds something else, or the rules of another process cannot be adopted. */
  failure: [error: Error];
}

/** What `SharedRuleLimiter.getStats` returns: the counts of this process. Violations and violators are those that it found. */
export interface SharedRuleStats extends RuleStats {
  /** The number of checks that the failure policy decided. They are not in `outcomes`. */
  readonly fallbackVerdicts: number;
  /** The number of checks that were delayed because the store had more calls than it answers in time. */
  readonly overloadVerdicts: number;
  /** Unspent tokens that are on lease to this process, of all rules and keys. */
  readonly leasedTokens: number;
  /** What all processes have done, as of the last report to the store, every five seconds; null before the first. */
  readonly fleet: RuleFleetTotals | null;
  readonly store: Readonly<StoreStats>;
}

/** What all processes with the same `prefix` have done, also those that have ended. It counts from 0 again if the store has lost its data. */
export interface RuleFleetTotals {
  /** The number of checks by their outcome. */
  readonly outcomes: RuleStats['outcomes'];
  /** The number of bans that checks have begun. */
  readonly bansBegun: number;
  /** The number of checks that the failure policies decided. They are not in `outcomes`. */
  readonly fallbackVerdicts: number;
  /** The number of checks that were delayed because the store had more calls than it answers in time. They are not in `outcomes`. */
  readonly overloadVerdicts: number;
}

/** What `SharedRuleLimiter.getFleetStats` returns. */
export interface RuleFleetStats extends RuleFleetTotals {
  /** The number of processes last seen that share the limits, with this one. */
  readonly nodes: number;
  /** The number of bans in force by scope; without single scopes. */
  readonly bans: Readonly<Record<string, number>>;
  /** The keys that were refused most, at most ten, the worst one first. */
  readonly offenders: readonly RuleOffender[];
}

/** A key of a scope that processes have refused. */
export interface RuleOffender {
  readonly scope: string;
  /** The key. One of more than 128 UTF-16 code units is given as its digest. */
  readonly key: string;
  /**
   * Checks of the last five to ten minutes that a rule, a ban or a list of this scope refused; if several did, of the one that a
   * verdict names. What a failure policy refuses is not counted. At least so many: a process counts about a hundred keys, and reports the ten that it refused most.
   */
  readonly refusals: number;
}
