// A lease: the quota that one request has taken, and what must be known to give it back.

import type { Receipt } from './windows/index.js';

/** The quota of one request. Both calls may be repeated; the first that comes decides. */
export interface Lease {
  /** Units taken. */
  readonly cost: number;
  /** The request has been answered, or may have arrived: its quota is spent. */
  release(): void;
  /** The request was never sent: its quota goes back. */
  refund(): void;
}

/** What the limiter notes of a take. */
export interface Taken {
  readonly cost: number;
  /** When, in seconds of the limiter's clock. */
  readonly at: number;
  /** All units that had been sent after it: which of two requests was sent first. */
  readonly mark: number;
  readonly receipt: Receipt;
  /** Whose it is: restoring a snapshot makes older leases worthless. */
  readonly owner: object;
}

export class QuotaLease implements Lease {
  readonly taken: Taken;
  /** Set by the limiter, once nothing can fail any more. */
  settled = false;
  readonly #settle: (lease: QuotaLease, refund: boolean) => void;

  constructor(taken: Taken, settle: (lease: QuotaLease, refund: boolean) => void) {
    this.taken = taken;
    this.#settle = settle;
  }

  get cost(): number {
    return this.taken.cost;
  }

  release(): void {
    if (!this.settled) this.#settle(this, false);
  }

  refund(): void {
    if (!this.settled) this.#settle(this, true);
  }
}

/** Leases whose request has not been answered. Who forgets to release one is not counted for ever. */
export class OpenLeases {
  readonly #open = new Set<QuotaLease>();
  #cost = 0;

  /** An answer is not waited for longer than this, in seconds. */
  static readonly LONGEST = 60;

  add(lease: QuotaLease, now: number): void {
    this.#forget(now);
    this.#open.add(lease);
    this.#cost += lease.cost;
  }

  delete(lease: QuotaLease): void {
    if (!this.#open.delete(lease)) return;
    this.#cost = this.#open.size === 0 ? 0 : this.#cost - lease.cost;
  }

  /** Units under way. */
  cost(now: number): number {
    this.#forget(now);
    return this.#cost;
  }

  /** When there are fewer than `most`, if no answer comes before that. */
  fewerThanAt(most: number, now: number): number {
    this.#forget(now);
    let surplus = this.#open.size - Math.ceil(most);
    if (surplus < 0) return -Infinity;
    for (const lease of this.#open) {
      if (surplus === 0) return lease.taken.at + OpenLeases.LONGEST;
      surplus -= 1;
    }
    return -Infinity;
  }

  #forget(now: number): void {
    // In the order in which they were taken.
    for (const lease of this.#open) {
      if (lease.taken.at + OpenLeases.LONGEST > now) return;
      this.delete(lease);
    }
  }
}
