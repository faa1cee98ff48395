// The reference model's state of one peer, in plain numbers. It shares no code with the limiters, tables and engines.

/** Everything that any of the three limiters stores for a peer. `undefined` in its place: the peer is not stored. */
export interface PeerState {
  /** Tokens in the bucket at `refilledAt`; undefined: the peer has no bucket. */
  readonly tokens: number | undefined;
  /** Seconds. */
  readonly refilledAt: number;
  /** When a request was last allowed; NEVER: the peer has an entry, but no request was allowed; undefined: no entry. */
  readonly allowedAt: number | undefined;
  readonly violations: number;
  /** When the ban began, even if it is over; undefined: no ban. */
  readonly bannedAt: number | undefined;
  /** True if the state was restored under a digest and the peer has not returned since: it is not in the table. */
  readonly isPending?: boolean;
}

export const NEVER = -Infinity;

export const INITIAL_STATE: PeerState = {
  tokens: undefined,
  refilledAt: NEVER,
  allowedAt: undefined,
  violations: 0,
  bannedAt: undefined,
};

/** Returns the seconds between two readings of the clock, 0 if it stepped back. */
export function secondsBetween(then: number, now: number): number {
  return Math.max(0, now - then);
}

export function same(a: PeerState | undefined, b: PeerState | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.tokens === b.tokens &&
    a.refilledAt === b.refilledAt &&
    a.allowedAt === b.allowedAt &&
    a.violations === b.violations &&
    a.bannedAt === b.bannedAt &&
    (a.isPending ?? false) === (b.isPending ?? false)
  );
}

/** Returns undefined for the initial state, which equals that of a peer that is not stored. */
export function undefinedIfInitial(state: PeerState): PeerState | undefined {
  return same(state, INITIAL_STATE) ? undefined : state;
}
