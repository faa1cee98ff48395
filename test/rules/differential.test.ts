// Both engines and the model do the same random operations and must return the same, to the last bit. A difference
// prints the seed of its round, the operation and those before it. RELAY_LIMITER_OPERATIONS=n makes the test longer: more
// seeds, after the fixed ones.

import { inspect, isDeepStrictEqual } from 'node:util';
import { describe, test } from 'vitest';
import { TESTS_NATIVE } from '../support/limiters.js';
import { Round, type RoundOptions } from './differential-round.js';
import { PRIVATE_CORES } from './subject.js';

const OPERATIONS = Number(process.env['RELAY_LIMITER_OPERATIONS'] ?? 20_000);
const PER_SEED = 2500;
const HISTORY = 12;
const SEEDS = Array.from({ length: Math.ceil(OPERATIONS / PER_SEED) }, (_, n) => n + 1);
const SHOWN = {
  depth: 9,
  compact: true,
  breakLength: Infinity,
  maxArrayLength: null,
  maxStringLength: 40,
};

// No time limit: the number of operations decides, and no limit stops synchronous code.
describe.each([
  ['alone', PRIVATE_CORES],
  // Single scopes, several parts of a table, two limiters of one file, and rules that one of them changes.
  ...(TESTS_NATIVE ? [['with a shared table', ['native', 'shared']] as const] : []),
] as const)('Random operations on limiters %s return the same on %s', (_, cores) => {
  test('with room for all peers', { timeout: Infinity }, () => {
    for (const seed of SEEDS) compare({ seed, cores, isCrowded: false });
  });

  test('in full scopes', { timeout: Infinity }, () => {
    for (const seed of SEEDS.slice(0, SEEDS.length / 4)) compare({ seed, cores, isCrowded: true });
  });
});

function compare(options: RoundOptions): void {
  const round = new Round(options);
  const history: (() => string)[] = [];
  for (let n = 0; n < PER_SEED; n += 1) {
    const { name, results } = round.run(round.next());
    history.push(() => `${n}: ${name()}`);
    if (history.length > HISTORY) history.shift();
    const [first, ...others] = results;
    if (others.every((result) => isDeepStrictEqual(result, first))) continue;
    const texts = results.map((result) => inspect(result, SHOWN));
    const [text] = texts as [string];
    let at = 0;
    while (texts.every((other) => other[at] === text[at])) at += 1;
    const from = Math.max(0, at - 150);
    const lines = options.cores.map((core, i) => `${core}: ${texts[i]?.slice(from, at + 100)}`);
    throw new Error(
      [`seed ${options.seed} differs:`, ...history.map((text) => text()), ...lines].join('\n'),
    );
  }
}
