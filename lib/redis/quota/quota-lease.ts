// QuotaLease: the part of the shared quota that is leased to this process, by unit, and how fast the process uses it.

import { amountOf, type Cost, plus } from '../../client/cost.js';

export class QuotaLease {
  /** The number of the call that was granted this lease. */
  id = 0;
  #ends = Number.NEGATIVE_INFINITY;
  #units: readonly string[];
  #left: Record<string, number> = Object.create(null);
  /** What has been used, and since when. */
  #used: Cost = 0;
  #countedFrom = Number.NEGATIVE_INFINITY;

  /** `units`: those that are limited. */
  constructor(units: readonly string[]) {
    this.#units = units;
  }

  get units(): readonly string[] {
    return this.#units;
  }

  /** Replaces the units. Nothing is left, because it was leased for others. */
  replaceUnits(units: readonly string[]): void {
    this.#units = units;
    this.discard();
  }

  isCurrent(now: number): boolean {
    return now < this.#ends;
  }

  covers(cost: Cost, now: number): boolean {
    return (
      this.isCurrent(now) && this.#units.every((unit) => amountOf(cost, unit) <= this.#of(unit))
    );
  }

  /** What is left of a unit. */
  left(unit: string, now: number): number {
    return this.isCurrent(now) ? this.#of(unit) : 0;
  }

  isEmpty(now: number): boolean {
    return this.#units.every((unit) => this.left(unit, now) <= 0);
  }

  take(cost: Cost): void {
    for (const unit of this.#units) this.#left[unit] = this.#of(unit) - amountOf(cost, unit);
    this.#used = plus(this.#used, cost);
  }

  /** Adds a cost back to the lease of call `id`; does nothing if a later lease has replaced it. */
  takeBack(cost: Cost, id: number): void {
    if (id !== this.id) return;
    for (const unit of this.#units) this.#left[unit] = this.#of(unit) + amountOf(cost, unit);
  }

  /** Drops what is left: the next call returns it to the store. */
  discard(): void {
    this.#left = Object.create(null);
  }

  /** Starts the lease of a call. `granted`: amounts of these units. */
  start(id: number, units: readonly string[], granted: readonly number[], ends: number): void {
    this.id = id;
    this.#ends = ends;
    units.forEach((unit, index) => {
      this.#left[unit] = granted[index] as number;
    });
  }

  /** The last grant was all that was needed: use is counted from here. */
  countFrom(now: number): void {
    this.#used = 0;
    this.#countedFrom = now;
  }

  /**
   * What to ask for, by unit, at least `first`: twice what was used if that took less than half a lease, as much if it took
   * less than a lease, otherwise half of it.
   */
  ahead(first: readonly number[], now: number, leaseSeconds: number): number[] {
    const age = now - this.#countedFrom;
    const factor = age < leaseSeconds / 2 ? 2 : age < leaseSeconds ? 1 : 0.5;
    return this.#units.map((unit, index) => {
      return Math.max(amountOf(this.#used, unit) * factor, first[index] as number);
    });
  }

  #of(unit: string): number {
    return this.#left[unit] ?? 0;
  }
}
