// A lease: the quota that one request has taken, and what must be known to give it back.

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
  /** Which request it was: of two, the one that was sent first has the lower number. */
  readonly number: number;
  /** Whose it is: restoring a snapshot makes older leases worthless. */
  readonly owner: object;
}

export class QuotaLease implements Lease {
  readonly taken: Taken;
  /** Units that the server was known to have counted when it was taken. */
  readonly counted: number;
  /** Set by the limiter, once the server has counted it, as far as that will be known. */
  isCounted = false;
  /** Set by the limiter, once nothing can fail any more. */
  settled = false;
  readonly #settle: (lease: QuotaLease, refund: boolean) => void;

  constructor(taken: Taken, counted: number, settle: (lease: QuotaLease, refund: boolean) => void) {
    this.taken = taken;
    this.counted = counted;
    this.#settle = settle;
  }

  get cost(): number {
    return this.taken.cost;
  }

  get at(): number {
    return this.taken.at;
  }

  release(): void {
    if (!this.settled) this.#settle(this, false);
  }

  refund(): void {
    if (!this.settled) this.#settle(this, true);
  }
}

/** Leases that nobody has ended, in the order in which they were taken. None counts for ever. */
export class OpenLeases<T extends { readonly at: number }> {
  readonly #open = new Set<T>();
  readonly #forgotten: ((lease: T) => void) | undefined;

  constructor(forgotten?: (lease: T) => void) {
    this.#forgotten = forgotten;
  }

  /** An end is not waited for longer than this, in seconds. */
  static readonly LONGEST = 60;

  add(lease: T): void {
    this.#open.add(lease);
  }

  /** Whether it was there. */
  delete(lease: T): boolean {
    return this.#open.delete(lease);
  }

  size(now: number): number {
    this.forget(now);
    return this.#open.size;
  }

  first(now: number): T | undefined {
    this.forget(now);
    const [first] = this.#open;
    return first;
  }

  /** When there are fewer than `most`, if none ends before that. */
  fewerThanAt(most: number, now: number): number {
    let surplus = this.size(now) - Math.ceil(most);
    if (surplus < 0) return -Infinity;
    for (const lease of this.#open) {
      if (surplus === 0) return lease.at + OpenLeases.LONGEST;
      surplus -= 1;
    }
    return -Infinity;
  }

  /** Drops those of which nothing has been heard for the longest time. */
  forget(now: number): void {
    for (const lease of this.#open) {
      if (lease.at + OpenLeases.LONGEST > now) return;
      this.#open.delete(lease);
      this.#forgotten?.(lease);
    }
  }
}
