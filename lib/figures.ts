// What limiters tell of themselves, in one shape whatever their class: for rooms that watch them from
// outside. Knows their public methods alone.

import { refused, show } from './errors.js';
import type { LimiterTotals, SnapshotPeer, Violator } from './types.js';

/** Totals of all checks so far. */
export type Verdicts = Readonly<LimiterTotals['verdicts']>;

interface Counts extends Readonly<LimiterTotals> {
  readonly totalViolations: number;
  readonly topViolators: readonly Violator[];
}

interface Watched {
  removePeer(key: string): void;
  snapshot(): { readonly peers: readonly SnapshotPeer[] };
}

interface WithStats {
  getStats(): Counts & { readonly trackedPeers: number };
}

interface WithStatistics {
  getStatistics(): Counts &
    (
      | { readonly trackedPeers: number; readonly bannedPeers: readonly string[] }
      | { readonly trackedConnections: number; readonly bannedConnections: readonly string[] }
    );
}

/** Any of the three limiters, or what tells of itself as they do. */
export type WatchedLimiter = Watched & (WithStats | WithStatistics);

/** Limiters by the names that people are to read. */
export type NamedLimiters = Readonly<Record<string, WatchedLimiter>>;

/** What a limiter's statistics say. */
export interface Figures extends Counts {
  readonly tracked: number;
  /** Bans in force. */
  readonly banned: number;
}

/** Costs what the limiter's statistics cost: little, but for each ban in force something. */
export function figuresOf(limiter: WatchedLimiter): Figures {
  if ('getStats' in limiter) {
    const stats = limiter.getStats();
    return { ...stats, tracked: stats.trackedPeers, banned: 0 };
  }
  const statistics = limiter.getStatistics();
  if ('bannedPeers' in statistics) {
    const { trackedPeers: tracked, bannedPeers, ...counts } = statistics;
    return { ...counts, tracked, banned: bannedPeers.length };
  }
  const { trackedConnections: tracked, bannedConnections, ...counts } = statistics;
  return { ...counts, tracked, banned: bannedConnections.length };
}

/** Throws `ERR_LIMITER_OPTION` unless `given` holds limiters by their names, one at least. */
export function namedLimiters(given: unknown): [name: string, limiter: WatchedLimiter][] {
  const entries = typeof given === 'object' && given !== null ? Object.entries(given) : [];
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
  if (typeof value !== 'object' || value === null) return false;
  const has = (name: string) => typeof (value as Record<string, unknown>)[name] === 'function';
  return has('removePeer') && has('snapshot') && (has('getStats') || has('getStatistics'));
}
