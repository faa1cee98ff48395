// The keys of an attacker who may choose them: few that come back, and as many as wanted that do not.

import { ODD_KEYS } from '../test/support/limiters.js';
import type { Random } from '../test/support/random.js';

const FRESH = 'fresh:';
const LONGEST = 65_536;
const LENGTHS = [0, 1, 7, 8, 15, 16, 31, 62, 64, 127, 128, 129, 255, 1000, 16_384, LONGEST];

/** Keys that come back: plain ones, odd ones, and long ones that differ in one place alone. */
export function poolOfKeys(random: Random): string[] {
  const plain = Array.from({ length: random.pick([3, 40, 400, 3000]) }, (_, i) => `nick-${i}`);
  const long = Array.from({ length: 6 }, (_, i) => differingAt(random, random.pick(LENGTHS), i));
  return [...new Set([...plain, ...random.pick([[], ODD_KEYS]), ...long])];
}

function differingAt(random: Random, length: number, i: number): string {
  const mark = `${i}`.slice(0, length);
  const before = random.pick([0, length - mark.length, random.below(length - mark.length + 1)]);
  return 'x'.repeat(before) + mark + 'x'.repeat(length - mark.length - before);
}

/** How often a fresh key is asked at most: it has no more violations than that. */
export const MOST_ASKED_FRESH = 3;

/** Keys that were never there, and are never asked again once their turn is over. */
export class FreshKeys {
  count = 0;
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  next(): string {
    this.count += 1;
    const key = `${FRESH}${this.count}`;
    const length = this.#random() < 0.0003 ? LONGEST : 129 + this.#random.below(400);
    if (this.#random() > 0.02) return key;
    return key.padEnd(length, this.#random.pick(['x', '\u00e9', '\ud800']));
  }
}

export function isFreshKey(key: string): boolean {
  return key.startsWith(FRESH);
}
