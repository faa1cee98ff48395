// A lease is the quota that one request has taken, with the data that a refund needs.

import { amountOf, type Cost, type Costs, REQUESTS, readCost, toCosts } from './cost.js';

/** The quota that one request has taken. A lease ends once: later calls of its methods do nothing. */
export interface Lease {
  /** The units of `requests` that were taken. */
  readonly cost: number;
  /** The amounts of all units that were taken, such as `{ requests: 1, tokens: 900 }`. */
  readonly costs: Costs;
  /** Ends the lease of a request that was answered or may have arrived: its quota is spent. */
  release(): void;
  /** Ends the lease of a request that was never sent: its quota is given back. */
  refund(): void;
  /**
   * Ends the lease of a request whose real cost is known only now, such as the tokens of an answer. What was taken
   * too much is given back, as far as no later request may have used it. What was taken too little is spent, even
   * if it exceeds a quota: then later requests wait longer. Units that `actual` leaves out cost what was taken.
   * @throws ERR_LIMITER_COST; then nothing has changed
   */
  settle(actual: number | Costs): void;
}

/** Calls `fn` with a lease, which ends when the promise of `fn` has settled. @throws what `fn` throws @internal */
export async function useLease<T>(
  lease: Lease,
  fn: (lease: Lease) => T | PromiseLike<T>,
): Promise<T> {
  try {
    return await fn(lease);
  } finally {
    lease.release();
  }
}

/** What the limiter records when it takes quota. */
export interface TakenQuota {
  /** The amounts taken. */
  readonly cost: Cost;
  /** The unit of a cost that is a number. */
  readonly numberUnit: string;
  /** The time of the take, in seconds of the limiter's clock. */
  readonly at: number;
  /** The request's number. Requests are numbered in the order in which they are sent. */
  readonly number: number;
  /** The limiter's state that the quota belongs to. `restore` replaces it, so older leases refund nothing. */
  readonly owner: object;
}

export class QuotaLease implements Lease, LinkedLease {
  previous: LinkedLease | undefined = undefined;
  next: LinkedLease | undefined = undefined;
  readonly taken: TakenQuota;
  /** The units that the server was known to have counted at the time of the take. */
  readonly countedBefore: Cost;
  /** The limiter sets this once the server is assumed to have counted the request. */
  isCounted = false;
  /** The limiter sets this when the lease ends, after the last step that can throw. */
  isSettled = false;
  readonly #end: (lease: QuotaLease, end: LeaseEnd) => void;
  /** The lease of another limiter that was taken at the same moment. It ends in the same way. */
  readonly #outer: Lease | undefined;

  constructor(
    taken: TakenQuota,
    countedBefore: Cost,
    end: (lease: QuotaLease, end: LeaseEnd) => void,
    outer?: Lease,
  ) {
    this.taken = taken;
    this.countedBefore = countedBefore;
    this.#end = end;
    this.#outer = outer;
  }

  get cost(): number {
    return amountOf(this.taken.cost, this.taken.numberUnit);
  }

  get costs(): Costs {
    return toCosts(this.taken.cost);
  }

  get at(): number {
    return this.taken.at;
  }

  get outer(): Lease | undefined {
    return this.#outer;
  }

  release(): void {
    if (this.isSettled) return;
    this.#outer?.release();
    this.#end(this, { refund: false });
  }

  refund(): void {
    if (this.isSettled) return;
    this.#outer?.refund();
    this.#end(this, { refund: true });
  }

  settle(actual: number | Costs): void {
    const correction = correctionOf(this.taken, actual);
    if (this.isSettled) return;
    this.#outer?.settle(actual);
    this.#end(this, { refund: false, correction });
  }
}

/** How a lease ends: the request was never sent, or it was, at a cost that differs by `correction`. */
export interface LeaseEnd {
  readonly refund: boolean;
  readonly correction?: Cost;
}

/** Returns the difference between the actual cost and what was taken. */
export function correctionOf(
  { cost: taken, numberUnit }: Pick<TakenQuota, 'cost' | 'numberUnit'>,
  actual: number | Costs,
): Cost {
  const read = readCost(actual);
  if (typeof actual === 'number') {
    const difference = actual - amountOf(taken, numberUnit);
    return numberUnit === REQUESTS ? difference : { [numberUnit]: difference };
  }
  // `readCost` adds a request, which is right for a cost, but here means that nothing is said of requests.
  const units = Object.keys(actual);
  const differences: Record<string, number> = Object.create(null);
  for (const unit of units) differences[unit] = amountOf(read, unit) - amountOf(taken, unit);
  return differences;
}

/** An element of `OpenLeases`, which links it to its neighbours. It may be in one such list only. */
export interface LinkedLease {
  readonly at: number;
  previous: LinkedLease | undefined;
  next: LinkedLease | undefined;
}

/**
 * The leases that have not ended, in the order in which they were taken. A lease expires after a minute, so
 * that a forgotten one does not count forever. A linked list: a Set allocates a table for every few leases that come and
 * go.
 */
export class OpenLeases<T extends LinkedLease> {
  readonly #onExpire: ((lease: T) => void) | undefined;
  #first: T | undefined;
  #last: T | undefined;
  #size = 0;

  constructor(onExpire?: (lease: T) => void) {
    this.#onExpire = onExpire;
  }

  /** Seconds after which a lease expires. */
  static readonly MAX_SECONDS = 60;

  add(lease: T): void {
    lease.previous = this.#last;
    if (this.#last === undefined) this.#first = lease;
    else this.#last.next = lease;
    this.#last = lease;
    this.#size += 1;
  }

  /** Deletes a lease; does nothing if it is not in the list. */
  delete(lease: T): void {
    const { previous, next } = lease;
    if (previous === undefined && this.#first !== lease) return;
    if (previous === undefined) this.#first = next as T | undefined;
    else previous.next = next;
    if (next === undefined) this.#last = previous as T | undefined;
    else next.previous = previous;
    lease.previous = undefined;
    lease.next = undefined;
    this.#size -= 1;
  }

  size(now: number): number {
    this.expire(now);
    return this.#size;
  }

  first(now: number): T | undefined {
    this.expire(now);
    return this.#first;
  }

  /** Returns the time at which fewer than `limit` leases are open if none ends before it expires. */
  fewerThanAt(limit: number, now: number): number {
    let surplus = this.size(now) - Math.ceil(limit);
    if (surplus < 0) return -Infinity;
    let lease: LinkedLease | undefined = this.#first;
    for (; surplus > 0; surplus -= 1) lease = lease?.next;
    return lease === undefined ? -Infinity : lease.at + OpenLeases.MAX_SECONDS;
  }

  /** Deletes the expired leases. */
  expire(now: number): void {
    for (let lease = this.#first; lease !== undefined; lease = this.#first) {
      if (lease.at + OpenLeases.MAX_SECONDS > now) return;
      this.delete(lease);
      this.#onExpire?.(lease);
    }
  }
}
