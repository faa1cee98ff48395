// RecentPeers: which peers have been checked lately, in little and constant memory. It may forget a peer early, or take one
// peer for another: both cost a call of the store, and change no verdict. Hashes have a secret, so nobody can choose names
// that make it forget others.

import { sipHash53 } from '../../tables/siphash.js';

/** Hashes that are remembered, in each of two generations: sets of some that a peer may be in. */
const SLOTS = 2 ** 15;
const SET_SIZE = 4;

export class RecentPeers {
  readonly #seconds: number;
  readonly #secret = globalThis.crypto.getRandomValues(new Uint32Array(4));
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
    const bits = sipHash53(id, this.#secret);
    const set = bits & (SLOTS - SET_SIZE);
    // Other bits than those of the set. 0 marks an empty slot.
    const hash = Math.floor(bits / 2 ** 21) | 0 || 1;
    if (has(this.#current, set, hash)) return true;
    // The oldest of the set goes. A loop, because copyWithin takes longer than all else here.
    for (let slot = set + SET_SIZE - 1; slot > set; slot -= 1) {
      this.#current[slot] = this.#current[slot - 1] as number;
    }
    this.#current[set] = hash;
    return has(this.#previous, set, hash);
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

function has(hashes: Int32Array, set: number, hash: number): boolean {
  for (let slot = set; slot < set + SET_SIZE; slot += 1) if (hashes[slot] === hash) return true;
  return false;
}
