// Eviction: if a limiter has maxPeers peers, a new peer replaces the one with the lowest EvictionCost among a
// sample. The cost of the search is bounded, and a banned peer is never evicted. Counterpart of
// native/limiters/eviction.h.

import type { Place, Table } from '../../tables/table.js';
import { type EvictionCost, isLower, isZero } from './eviction-cost.js';

/** The number of records that a search compares. */
export const SAMPLE = 16;
/**
 * The maximum number of records of a table that a search visits, if it may evict none of the first
 * SAMPLE.
 */
export const MOST_LOOKED_AT = 1024;

/** The record with the lowest cost among those offered, if that is below the newcomer's own cost. */
export class EvictionCandidate {
  /** Undefined if no offered record may be evicted. */
  place: Place | undefined;
  cost: EvictionCost;

  constructor(newcomerCost: EvictionCost) {
    this.cost = newcomerCost;
  }

  /**
   * Whether a record with a peer that would be fresh after so many seconds can have a lower cost. The
   * other parts of a cost are expensive to look up; false saves that work.
   */
  canImprove(secondsUntilFresh: number): boolean {
    return this.cost.isOffender || secondsUntilFresh < this.cost.tieBreaker;
  }

  /** True if no other record can be better. */
  offer(place: Place, cost: EvictionCost): boolean {
    if (!isLower(cost, this.cost)) return false;
    this.place = place;
    this.cost = cost;
    return isZero(cost);
  }
}

/**
 * Calls `offer` for SAMPLE random records. If none of these may be evicted, calls it for up to `most`
 * others, until `best` has a record. The search ends early if `offer` returns true.
 */
export function offerSample(
  table: Table,
  most: number,
  best: EvictionCandidate,
  offer: (place: Place) => boolean,
): void {
  table.sample(SAMPLE, offer);
  if (best.place !== undefined || most <= SAMPLE) return;
  table.sample(most, (place) => {
    offer(place);
    return best.place !== undefined;
  });
}

/**
 * Says that a newcomer may get a record, and which peer is evicted for it. The limiter evicts that peer
 * only after the newcomer has its record: if there is no memory, nothing changes.
 */
export interface Admission {
  /**
   * The evicted peer's place in the newcomer's table, which the newcomer replaces. Undefined if the
   * peer has no record there, or if no eviction is needed.
   */
  readonly place: Place | undefined;
  /** Undefined if no eviction is needed. */
  readonly evicted: { readonly key: string; readonly cost: EvictionCost } | undefined;
}

export const WITHOUT_EVICTION: Admission = { place: undefined, evicted: undefined };
