// Statistics of limiters, in one shape for all classes, for metrics and the dashboard. Uses only their public methods.

import { hasMethods } from '../common/kinds.js';
import type { BansInForce, LimiterOverview, LimiterTotals } from '../common/types.js';

/** The verdicts of all checks so far. */
export type Verdicts = Readonly<LimiterTotals['verdicts']>;

/** ObservableLimiter is a limiter with one kind of key, one scope of a RuleLimiter, or an object with these methods. */
export interface ObservableLimiter {
  /** Returns the statistics that all limiters share. */
  getOverview(): LimiterOverview;
  /** Returns the violations of a peer; 0 for an unknown peer. */
  getViolationCount(key: string): number;
  /** Removes a peer, including its violations and its ban. */
  removePeer(key: string): void;
  /** Returns the number of bans in force, and the `most` bans that end last. Only limiters with bans have this method. */
  getBans?(most?: number): BansInForce;
  /** Returns whether a ban of the peer is in force. Only limiters with bans have this method. */
  isBanned?(key: string): boolean;
  /**
   * Returns the remaining seconds of a ban, Infinity if it is for ever, 0 without one. Optional: with it, the lift of any
   * ban can be undone.
   */
  banSecondsLeft?(key: string): number;
  /** Bans a peer for `seconds`. Only limiters with bans have this method. */
  ban?(key: string, seconds?: number, violations?: number): boolean;
  /** Ends a ban and keeps all else, where a limiter can. Without it a ban is lifted by `removePeer`. */
  unban?(key: string): boolean;
  /** The default length of a ban in seconds, at least 0. Only limiters with bans have this property. */
  readonly banDuration?: number;
  /** The maximum length of a ban by hand in seconds. Default: `banDuration`. */
  readonly maxBanSeconds?: number;
}

/** LimiterStats is the overview of a limiter and the number of its bans. */
export interface LimiterStats extends LimiterOverview {
  /** The number of bans in force. */
  readonly banned: number;
}

/** Returns the statistics of a limiter. One pass over its bans, which lists none of them. */
export function statsOf(limiter: ObservableLimiter): LimiterStats {
  return { ...limiter.getOverview(), banned: limiter.getBans?.(0).count ?? 0 };
}

/** Returns the result of `read`, or null if it throws: a limiter's clock is user code, and may throw. */
export function ifKnown<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}

/** Whether a value has the methods of an ObservableLimiter. */
export function isObservable(value: unknown): value is ObservableLimiter {
  if (typeof value !== 'object') return false;
  return hasMethods(value, 'removePeer', 'getOverview', 'getViolationCount');
}
