// A lease is the quota that one request has taken, with the data that a refund needs.

/** The quota that one request has taken. Both methods may be called repeatedly; only the first call counts. */
export interface Lease {
  /** The units taken. */
  readonly cost: number;
  /** Ends the lease of a request that was answered or may have arrived: its quota is spent. */
  release(): void;
  /** Ends the lease of a request that was never sent: its quota is given back. */
  refund(): void;
}

/** What the limiter records when it takes quota. */
export interface TakenQuota {
  /** The units taken. */
  readonly cost: number;
  /** The time of the take, in seconds of the limiter's clock. */
  readonly at: number;
  /** The request's number. Requests are numbered in the order in which they are sent. */
  readonly number: number;
  /** The limiter's state that the quota belongs to. `restore` replaces it, so older leases refund nothing. */
  readonly owner: object;
}

export class QuotaLease implements Lease {
  readonly taken: TakenQuota;
  /** The units that the server was known to have counted at the time of the take. */
  readonly countedBefore: number;
  /** The limiter sets this once the server is assumed to have counted the request. */
  isCounted = false;
  /** The limiter sets this when the lease ends, after the last step that can throw. */
  isSettled = false;
  readonly #settle: (lease: QuotaLease, refund: boolean) => void;

  constructor(
    taken: TakenQuota,
    countedBefore: number,
    settle: (lease: QuotaLease, refund: boolean) => void,
  ) {
    this.taken = taken;
    this.countedBefore = countedBefore;
    this.#settle = settle;
  }

  get cost(): number {
    return this.taken.cost;
  }

  get at(): number {
    return this.taken.at;
  }

  release(): void {
    if (!this.isSettled) this.#settle(this, false);
  }

  refund(): void {
    if (!this.isSettled) this.#settle(this, true);
  }
}

/**
 * The leases that have not ended, in the order in which they were taken. A lease expires after a minute, so
 * that a forgotten one does not count forever.
 */
export class OpenLeases<T extends { readonly at: number }> {
  readonly #leases = new Set<T>();
  readonly #onExpire: ((lease: T) => void) | undefined;

  constructor(onExpire?: (lease: T) => void) {
    this.#onExpire = onExpire;
  }

  /** Seconds after which a lease expires. */
  static readonly MAX_SECONDS = 60;

  add(lease: T): void {
    this.#leases.add(lease);
  }

  delete(lease: T): void {
    this.#leases.delete(lease);
  }

  size(now: number): number {
    this.expire(now);
    return this.#leases.size;
  }

  first(now: number): T | undefined {
    this.expire(now);
    const [first] = this.#leases;
    return first;
  }

  /** Returns the time at which fewer than `limit` leases are open if none ends before it expires. */
  fewerThanAt(limit: number, now: number): number {
    let surplus = this.size(now) - Math.ceil(limit);
    if (surplus < 0) return -Infinity;
    for (const lease of this.#leases) {
      if (surplus === 0) return lease.at + OpenLeases.MAX_SECONDS;
      surplus -= 1;
    }
    return -Infinity;
  }

  /** Deletes the expired leases. */
  expire(now: number): void {
    for (const lease of this.#leases) {
      if (lease.at + OpenLeases.MAX_SECONDS > now) return;
      this.#leases.delete(lease);
      this.#onExpire?.(lease);
    }
  }
}
