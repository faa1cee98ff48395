// EvictionCost says what is lost if a peer is evicted, and orders peers by it. A peer is fresh if its state equals
// that of a new peer; evicting it loses nothing. Counterpart of native/limiters/eviction-cost.h.

/** The peer with the lowest cost is evicted first. */
export interface EvictionCost {
  /** Whether the peer has violations that its next check would not clear. */
  readonly isOffender: boolean;
  readonly violations: number;
  /**
   * Orders peers with equal violations. For a clean peer: the seconds until it is fresh, 0 if it is
   * already. For an offender: minus the seconds since it was active.
   */
  readonly tieBreaker: number;
}

/** The highest cost: a banned peer is never evicted, and may evict any other peer. */
export const COST_OF_BANNED: EvictionCost = {
  isOffender: true,
  violations: Infinity,
  tieBreaker: Infinity,
};

export function costOfClean(secondsUntilFresh: number): EvictionCost {
  return { isOffender: false, violations: 0, tieBreaker: secondsUntilFresh };
}

export function costOfOffender(violations: number, idleSeconds: number): EvictionCost {
  return { isOffender: true, violations, tieBreaker: -idleSeconds };
}

export function isZero(cost: EvictionCost): boolean {
  return !cost.isOffender && cost.tieBreaker <= 0;
}

export function isLower(a: EvictionCost, b: EvictionCost): boolean {
  if (a.isOffender !== b.isOffender) return b.isOffender;
  return a.violations !== b.violations ? a.violations < b.violations : a.tieBreaker < b.tieBreaker;
}
