// What limiters tell of themselves, in one shape whatever their class: for rooms that watch them from
// outside. Knows their public methods alone.

import { refused, show } from '../common/errors.js';
import { hasMethods, isRecord } from '../common/kinds.js';
import type { BansInForce, LimiterOverview, LimiterTotals } from '../common/types.js';

/** Totals of all checks so far. */
export type Verdicts = Readonly<LimiterTotals['verdicts']>;

/** Any of the three limiters, or what tells of itself as they do. */
export interface WatchedLimiter {
  getOverview(): LimiterOverview;
  getViolationCount(key: string): number;
  removePeer(key: string): void;
  /** Of those that ban, and so are `isBanned`, `ban` and `banDuration`. */
  getBans?(most?: number): BansInForce;
  isBanned?(key: string): boolean;
  ban?(key: string, seconds?: number, violations?: number): boolean;
  /** Seconds. */
  readonly banDuration?: number;
}

/** Limiters by the names that people are to read. */
export type NamedLimiters = Readonly<Record<string, WatchedLimiter>>;

/** What a limiter tells of itself in numbers. */
export interface Figures extends LimiterOverview {
  /** Bans in force. */
  readonly banned: number;
}

/** Costs one pass over the bans, and names none. */
export function figuresOf(limiter: WatchedLimiter): Figures {
  return { ...limiter.getOverview(), banned: limiter.getBans?.(0).count ?? 0 };
}

/** What `look` finds, or null where it throws: as a limiter's clock may, which is the user's code. */
export function ifKnown<T>(look: () => T): T | null {
  try {
    return look();
  } catch {
    return null;
  }
}

/** Throws `ERR_LIMITER_OPTION` unless `given` holds limiters by their names, one at least. */
export function namedLimiters(given: unknown): [name: string, limiter: WatchedLimiter][] {
  const entries = (isRecord(given) ? Object.entries(given) : []) as [string, WatchedLimiter][];
  if (entries.length === 0) {
    throw refused('ERR_LIMITER_OPTION', 'limiters', given, 'an object of limiters by their names');
  }
  for (const [name, limiter] of entries) {
    if (isWatched(limiter)) continue;
    throw refused('ERR_LIMITER_OPTION', `limiters[${show(name)}]`, limiter, 'a limiter');
  }
  return entries;
}

function isWatched(value: unknown): boolean {
  if (typeof value !== 'object') return false;
  return hasMethods(value, 'removePeer', 'getOverview', 'getViolationCount');
}
