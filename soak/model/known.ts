// What a limiter may know of one peer, in plain numbers: the state of the reference model. Knows no
// limiter, no table and no engine, and shares no code with them.

/** All that any of the three limiters keeps of a peer; `undefined` in place of one: nothing. */
export interface Known {
  /** Tokens in its bucket at `refilledAt`; undefined: it has no bucket. */
  readonly tokens: number | undefined;
  /** Seconds. */
  readonly refilledAt: number;
  /** When a request was last allowed; NEVER: it has an entry, and was not; undefined: no entry. */
  readonly allowedAt: number | undefined;
  readonly violations: number;
  /** When its ban began, over or not. */
  readonly bannedAt: number | undefined;
  /** Restored under a digest, and not back yet: it is not in the table. */
  readonly isAwaited?: boolean;
}

export const NEVER = -Infinity;

export const NOTHING: Known = {
  tokens: undefined,
  refilledAt: NEVER,
  allowedAt: undefined,
  violations: 0,
  bannedAt: undefined,
};

/** Seconds between two readings of the clock; none have passed where it stepped back. */
export function secondsBetween(then: number, now: number): number {
  return Math.max(0, now - then);
}

export function same(a: Known | undefined, b: Known | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.tokens === b.tokens &&
    a.refilledAt === b.refilledAt &&
    a.allowedAt === b.allowedAt &&
    a.violations === b.violations &&
    a.bannedAt === b.bannedAt &&
    (a.isAwaited ?? false) === (b.isAwaited ?? false)
  );
}

/** Nothing left of it is the same as never having been there. */
export function orNothing(known: Known): Known | undefined {
  return same(known, NOTHING) ? undefined : known;
}
