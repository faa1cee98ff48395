// A lease of a shared quota: what one request has spent of it.

import {
  amountOf,
  type Cost,
  type Costs,
  minus,
  positivePart,
  toCosts,
} from '../../client/cost.js';
import { correctionOf, type Lease } from '../../client/lease.js';
import type { Spent } from './spent-log.js';

/** The limiter that granted a lease. */
export interface LeaseOwner {
  readonly numberUnit: string;
  takeBack(spent: Spent, cost: Cost): void;
  spendMore(cost: Cost): void;
}

export class SharedLease implements Lease {
  readonly #owner: LeaseOwner;
  readonly #spent: Spent;
  readonly #taken: Cost;
  readonly #numberUnit: string;
  /** The lease of another limiter that was taken at the same moment. It ends in the same way. */
  readonly #inner: Lease | undefined;
  #isEnded = false;

  constructor(owner: LeaseOwner, spent: Spent, inner: Lease | undefined) {
    this.#owner = owner;
    this.#spent = spent;
    this.#taken = spent.cost;
    this.#numberUnit = owner.numberUnit;
    this.#inner = inner;
  }

  get cost(): number {
    return amountOf(this.#taken, this.#numberUnit);
  }

  get costs(): Costs {
    return toCosts(this.#taken);
  }

  release(): void {
    if (!this.#end()) return;
    this.#inner?.release();
  }

  refund(): void {
    if (!this.#end()) return;
    this.#inner?.refund();
    this.#owner.takeBack(this.#spent, this.#taken);
  }

  settle(actual: number | Costs): void {
    const taken = { cost: this.#taken, numberUnit: this.#numberUnit };
    const correction = correctionOf(taken, actual);
    if (!this.#end()) return;
    this.#inner?.settle(actual);
    const [more, less] = [positivePart(correction), positivePart(minus(0, correction))];
    if (hasAmount(more)) this.#owner.spendMore(more);
    if (hasAmount(less)) this.#owner.takeBack(this.#spent, less);
  }

  #end(): boolean {
    if (this.#isEnded) return false;
    this.#isEnded = true;
    return true;
  }
}

function hasAmount(cost: Cost): boolean {
  return Object.values(toCosts(cost)).some((amount) => amount > 0);
}
