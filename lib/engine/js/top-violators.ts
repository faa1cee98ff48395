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

  /** Call this after a violator's violations have grown. `others` is the number of other violators. */
  count(key: string, violations: number, order: number, others: number): void {
    const worst = this.#worst;
    let index = this.#find(violations, order);
    if (index === worst.length) {
      const last = worst[index - 1];
      // If the list does not hold all violators, one outside it may be worse than this one. Then the place of this one
      // is known only if it is worse than the last entry.
      const isPlaceKnown =
        index === others || (last !== undefined && isWorse(violations, order, last));
      if (!isPlaceKnown) return;
      if (last !== undefined && index === KEPT && !isWorse(violations, order, last)) return;
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
   * The index of a violator; the length of the list if it is not kept. One comparison finds out that
   * most violators are not.
   */
  #find(violations: number, order: number): number {
    const worst = this.#worst;
    const last = worst[worst.length - 1];
    if (last === undefined || isBehind(violations, order, last)) return worst.length;
    for (let index = worst.length - 1; index >= 0; index -= 1) {
      if ((worst[index] as Ranked).order === order) return index;
    }
    return worst.length;
  }
}

function isWorse(violations: number, order: number, other: Ranked): boolean {
  return violations !== other.violations ? violations > other.violations : order < other.order;
}

/** Whether `last` is worse. */
function isBehind(violations: number, order: number, last: Ranked): boolean {
  return violations !== last.violations ? violations < last.violations : order > last.order;
}
