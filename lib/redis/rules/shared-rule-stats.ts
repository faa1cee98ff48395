// What a SharedRuleLimiter reports: its events and its statistics.

import type { RuleStats } from '../../rules/types.js';
import type { StateChange, StoreCounters } from '../store/shard-health.js';

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
  readonly store: Readonly<StoreCounters> & {
    readonly state: 'up' | 'down';
    /** Processes last seen that share the limits, with this one. */
    readonly nodes: number;
  };
}
