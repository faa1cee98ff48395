// Keys that an attacker may choose: a small pool of recurring keys, and an unlimited supply of fresh ones.

import { ODD_KEYS } from '../test/support/limiters.js';
import type { Random } from '../test/support/random.js';

const FRESH = 'fresh:';
const MAX_LENGTH = 65_536;
const LENGTHS = [0, 1, 7, 8, 15, 16, 31, 62, 64, 127, 128, 129, 255, 1000, 16_384, MAX_LENGTH];

/** Recurring keys: plain ones, unusual ones, and long ones that differ only in one place. */
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

/** Maximum number of queries of a fresh key, and so of its violations. */
export const MAX_QUERIES_OF_FRESH = 3;

/** Keys that have not been used before, and are not used again later. */
export class FreshKeys {
  count = 0;
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  next(): string {
    this.count += 1;
    const key = `${FRESH}${this.count}`;
    const length = this.#random() < 0.0003 ? MAX_LENGTH : 129 + this.#random.below(400);
    if (this.#random() > 0.02) return key;
    return key.padEnd(length, this.#random.pick(['x', '\u00e9', '\ud800']));
  }
}

export function isFreshKey(key: string): boolean {
  return key.startsWith(FRESH);
}
