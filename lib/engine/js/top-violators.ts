// TopViolators keeps the offenders with the most violations sorted while violations are counted, so that listing them
// needs no scan of all offenders. If too many of them were removed, the list is incomplete and the caller must count
// all offenders again. Counterpart of native/limiters/top-violators.h.

import { TOP_VIOLATORS } from '../engine.js';

interface Ranked {
  readonly key: string;
  readonly violations: number;
  /** Unique; a later first violation has a higher one. */
  readonly order: number;
}

/**
 * The number of violators that are kept sorted. At least KEPT - TOP_VIOLATORS of them must be removed before all
 * violators must be counted again.
 */
const KEPT = 64;

export class TopViolators {
  /** The worst first. No violator outside is worse than the last one here. */
  #worst: Ranked[] = [];

  /** The keys to list, the worst first. */
  keys(): string[] {
    return this.#worst.slice(0, TOP_VIOLATORS).map(({ key }) => key);
  }

  /**
   * Call this after a violator's violations have grown from `before`. `others` is the number of other violators.
   */
  count(key: string, violations: number, before: number, order: number, others: number): void {
    const worst = this.#worst;
    const last = worst[worst.length - 1];
    // Most violators are not among the worst. A kept one has become worse than the last one.
    if (last !== undefined && worst.length === KEPT && !isWorse(violations, order, last)) return;
    let index = this.#find(before, order);
    if (index === worst.length) {
      // If the list does not hold all violators, one outside it may be worse than this one. Then the place of this one
      // is known only if it is worse than the last entry.
      const isPlaceKnown =
        index === others || (last !== undefined && isWorse(violations, order, last));
      if (!isPlaceKnown) return;
      if (index === KEPT) index -= 1;
    }
    const violator = { key, violations, order };
    for (; index > 0 && isWorse(violations, order, worst[index - 1] as Ranked); index -= 1) {
      worst[index] = worst[index - 1] as Ranked;
    }
    worst[index] = violator;
  }

  /** Call this after a violator was forgiven, with its last violations. */
  remove(violations: number, order: number): void {
    const index = this.#find(violations, order);
    if (index < this.#worst.length) this.#worst.splice(index, 1);
  }

  /**
   * Whether this lists the worst of so many violators. If not, call clear(), then count() for each
   * violator.
   */
  isComplete(violators: number): boolean {
    return this.#worst.length >= Math.min(violators, TOP_VIOLATORS);
  }

  clear(): void {
    this.#worst = [];
  }

  /**
   * The index of a violator, given as it was counted last; the length of the list if it is not kept. Every violator
   * that is not behind the last one is kept, so its place is enough.
   */
  #find(violations: number, order: number): number {
    const worst = this.#worst;
    const last = worst[worst.length - 1];
    if (last === undefined || isBehind(violations, order, last)) return worst.length;
    let first = 0;
    for (let count = worst.length; count > 1; count -= count >> 1) {
      const middle = worst[first + (count >> 1) - 1] as Ranked;
      if (isBehind(violations, order, middle)) first += count >> 1;
    }
    return first;
  }
}

function isWorse(violations: number, order: number, other: Ranked): boolean {
  return violations !== other.violations ? violations > other.violations : order < other.order;
}

/** Whether `other` is worse. */
function isBehind(violations: number, order: number, other: Ranked): boolean {
  return violations !== other.violations ? violations < other.violations : order > other.order;
}
