// TopViolators: the worst offenders, kept in order as violations are counted, so that listing them takes
// no pass over all. Twin of native/limiters/top-violators.h. Knows no table: where too many of the worst were
// forgiven, it must be told of all offenders again.

import { TOP_VIOLATORS } from '../engine.js';

interface Ranked {
  readonly key: string;
  readonly violations: number;
  /** Different for each, and lower than that of all who offended later. */
  readonly order: number;
}

/** So many can be forgiven before all offenders must be counted again. */
const KEPT = 64;

export class TopViolators {
  /** Worst first; nobody else is worse than the last of them. */
  #worst: Ranked[] = [];

  /** The keys of the worst, in order. */
  keys(): string[] {
    return this.#worst.slice(0, TOP_VIOLATORS).map(({ key }) => key);
  }

  /** After a violator was counted once more, or first. `others`: how many others there are. */
  count(key: string, violations: number, order: number, others: number): void {
    const worst = this.#worst;
    let place = this.#find(violations, order);
    if (place === worst.length) {
      const last = worst[place - 1];
      // Behind the last that is known there may be others that are worse.
      const known = place === others || (last !== undefined && isWorse(violations, order, last));
      if (!known || (last !== undefined && place === KEPT && !isWorse(violations, order, last)))
        return;
      if (place === KEPT) place -= 1;
    }
    const violator = { key, violations, order };
    for (; place > 0 && isWorse(violations, order, worst[place - 1] as Ranked); place -= 1) {
      worst[place] = worst[place - 1] as Ranked;
    }
    worst[place] = violator;
  }

  /** After a violator was forgiven. */
  forget(violations: number, order: number): void {
    const place = this.#find(violations, order);
    if (place < this.#worst.length) this.#worst.splice(place, 1);
  }

  /** Whether they are the worst of `all` that there are. If not: clear(), and count() everybody. */
  holds(all: number): boolean {
    return this.#worst.length >= Math.min(all, TOP_VIOLATORS);
  }

  clear(): void {
    this.#worst = [];
  }

  /** Its place; the length without one. Hardly anybody is among the worst, which one comparison tells. */
  #find(violations: number, order: number): number {
    const worst = this.#worst;
    const last = worst[worst.length - 1];
    if (last === undefined || isAfter(last, violations, order)) return worst.length;
    for (let place = worst.length - 1; place >= 0; place -= 1) {
      if ((worst[place] as Ranked).order === order) return place;
    }
    return worst.length;
  }
}

function isWorse(violations: number, order: number, other: Ranked): boolean {
  return violations !== other.violations ? violations > other.violations : order < other.order;
}

function isAfter(last: Ranked, violations: number, order: number): boolean {
  return violations !== last.violations ? violations < last.violations : order > last.order;
}
