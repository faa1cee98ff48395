// RecentPeers: which peers have been checked lately, in little and constant memory. It may forget a peer early, or take one
// peer for another: both cost a call of the store, and change no verdict.

import { hashOf } from '../store/keys.js';

/** Hashes that are remembered, in each of two generations. */
const SLOTS = 2 ** 15;

export class RecentPeers {
  readonly #seconds: number;
  #current = new Int32Array(SLOTS);
  #previous = new Int32Array(SLOTS);
  #begunAt = Number.NEGATIVE_INFINITY;

  /** `seconds`: for how long a peer is remembered, at least; at most twice as long. */
  constructor(seconds: number) {
    this.#seconds = seconds;
  }

  /** Adds a peer. Returns whether it was there already. */
  add(id: string, now: number): boolean {
    if (now - this.#begunAt > this.#seconds) this.#begin(now);
    // 0 marks an empty slot.
    const hash = hashOf(id) || 1;
    const slot = hash & (SLOTS - 1);
    if (this.#current[slot] === hash) return true;
    const wasThere = this.#previous[slot] === hash;
    this.#current[slot] = hash;
    return wasThere;
  }

  /** Begins a new generation in place of the older one. */
  #begin(now: number): void {
    const isRecent = now - this.#begunAt <= 2 * this.#seconds;
    [this.#previous, this.#current] = [this.#current, this.#previous];
    this.#current.fill(0);
    if (!isRecent) this.#previous.fill(0);
    this.#begunAt = now;
  }
}
