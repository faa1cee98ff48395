// Spreads the units that a server says remain over the time until their reset: a share in one burst, the rest evenly.

export class Pacer {
  /** Units taken that the rate has not made up for yet. */
  #debt = 0;
  #updatedAt: number;
  #unitsPerSecond = Infinity;
  #capacity = 1;

  constructor(now: number) {
    this.#updatedAt = now;
  }

  /** Starts a new span: `units` over `seconds`, of which `burstShare` can be taken in one burst. */
  spread(units: number, seconds: number, burstShare: number, now: number): void {
    this.#settle(now);
    this.#unitsPerSecond = Math.max(0, units) / seconds;
    this.#capacity = Math.max(1, units * burstShare);
    // At most the capacity carries over from the debt of the previous span; then the new span has no burst.
    this.#debt = Math.min(this.#debt, this.#capacity);
  }

  readyAt(cost: number): number {
    const missing = this.#debt + Math.min(cost, this.#capacity) - this.#capacity;
    return missing > 0 ? this.#updatedAt + missing / this.#unitsPerSecond : -Infinity;
  }

  take(cost: number, now: number): void {
    this.#settle(now);
    this.#debt += cost;
  }

  /** Undoes a take at the time `at`, without the part that the rate has made up for since. */
  refund(cost: number, at: number, now: number): void {
    this.#settle(now);
    const settled = now > at ? this.#unitsPerSecond * (now - at) : 0;
    this.#debt = Math.max(0, this.#debt - Math.max(0, cost - settled));
  }

  #settle(now: number): void {
    const elapsed = now - this.#updatedAt;
    if (elapsed > 0) this.#debt = Math.max(0, this.#debt - this.#unitsPerSecond * elapsed);
    this.#updatedAt = now;
  }
}
