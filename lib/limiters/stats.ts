// Statistics of limiters, in one shape for all three classes, for metrics and the dashboard. Uses only their public
// methods.

import { invalidValue, show } from '../common/errors.js';
import { hasMethods, isRecord } from '../common/kinds.js';
import type { BansInForce, LimiterOverview, LimiterTotals } from '../common/types.js';

/** The verdicts of all checks so far. */
export type Verdicts = Readonly<LimiterTotals['verdicts']>;

/** ObservableLimiter is any of the three limiters, or an object with these methods. */
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
  /** Bans a peer for `seconds`. Only limiters with bans have this method. */
  ban?(key: string, seconds?: number, violations?: number): boolean;
  /** The length of a ban in seconds. Only limiters with bans have this property. */
  readonly banDuration?: number;
}

/** Limiters by the names under which they are shown. */
export type NamedLimiters = Readonly<Record<string, ObservableLimiter>>;

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

/** Reads an option with limiters by name. @throws `ERR_LIMITER_OPTION` unless it has at least one, and only limiters. */
export function namedLimiters(given: unknown): [name: string, limiter: ObservableLimiter][] {
  const entries = (isRecord(given) ? Object.entries(given) : []) as [string, ObservableLimiter][];
  if (entries.length === 0) {
    throw invalidValue(
      'ERR_LIMITER_OPTION',
      'limiters',
      given,
      'an object with at least one limiter, by name',
    );
  }
  for (const [name, limiter] of entries) {
    if (isObservable(limiter)) continue;
    throw invalidValue('ERR_LIMITER_OPTION', `limiters[${show(name)}]`, limiter, 'a limiter');
  }
  return entries;
}

function isObservable(value: unknown): boolean {
  if (typeof value !== 'object') return false;
  return hasMethods(value, 'removePeer', 'getOverview', 'getViolationCount');
}
