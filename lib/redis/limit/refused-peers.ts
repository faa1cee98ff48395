// RefusedPeers: the peers that were refused most often lately, in bounded memory (the algorithm Space-Saving). A count is
// never above the truth, and a peer with more than a hundredth of all refusals is never forgotten.

import { detachString } from '../../common/strings.js';
import type { RefusedPeer } from '../store/fleet-scripts.js';
import { nowSeconds } from '../store/timing.js';

/** Peers that are counted at a time. */
const CAPACITY = 100;
/** Refusals of the current and the previous span of so many seconds count. */
const SPAN_SECONDS = 300;

interface Count {
  refusals: number;
  /** The count that the peer took over from the one that it replaced: by so much it may be too high. */
  excess: number;
}

export class RefusedPeers {
  #current = new Map<string, Count>();
  #previous = new Map<string, Count>();
  #spanBegan = nowSeconds();

  /** Counts a refusal. O(1) for a peer that is counted, otherwise O(100). */
  add(id: string): void {
    this.#rotate();
    const known = this.#current.get(id);
    if (known !== undefined) {
      known.refusals += 1;
      return;
    }
    const excess = this.#current.size < CAPACITY ? 0 : this.#removeLeast();
    this.#current.set(detachString(id), { refusals: excess + 1, excess });
  }

  /** The peers that were refused most in the current span and the one before it. */
  top(most: number): RefusedPeer[] {
    this.#rotate();
    const spans = [this.#previous, this.#current];
    const lists = spans.map((span) =>
      [...span].map(([id, { refusals, excess }]): RefusedPeer => [id, refusals - excess]),
    );
    return mergeRefused(lists, most);
  }

  /** Begins a new span if the current one is over. */
  #rotate(): void {
    const now = nowSeconds();
    const spans = Math.floor((now - this.#spanBegan) / SPAN_SECONDS);
    if (spans < 1) return;
    this.#previous = spans === 1 ? this.#current : new Map();
    this.#current = new Map();
    this.#spanBegan += spans * SPAN_SECONDS;
  }

  #removeLeast(): number {
    let least: string | undefined;
    let count = Number.POSITIVE_INFINITY;
    for (const [id, { refusals }] of this.#current) {
      if (refusals >= count) continue;
      least = id;
      count = refusals;
    }
    this.#current.delete(least as string);
    return count;
  }
}

/** Adds up counts of the same peers. Returns those with most refusals, in a certain order. */
export function mergeRefused(
  lists: readonly (readonly RefusedPeer[])[],
  most: number,
): RefusedPeer[] {
  const sums = new Map<string, number>();
  for (const [id, refusals] of lists.flat()) sums.set(id, (sums.get(id) ?? 0) + refusals);
  const sorted = [...sums].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  return sorted.slice(0, most);
}
