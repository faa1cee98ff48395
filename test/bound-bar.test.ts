// The bar at the end of the tables of demo:fleet and demo:cluster.

import { expect, test } from 'vitest';
import { boundBar } from '../out/examples/bound-bar.js';

test.each([
  [0, 100, `${'░'.repeat(50)}│ 0 of at most 100: 0%`],
  [50, 100.9, `${'█'.repeat(25)}${'░'.repeat(25)}│ 50 of at most 100: 49%`],
  [100, 100, `${'█'.repeat(50)}│ 100 of at most 100: 100%`],
  [5000, 1000, `${'█'.repeat(10)}│${'█'.repeat(40)} 5,000 of at most 1,000: 500%`],
])('the bar of %d against %d', (admitted, bound, bar) => {
  expect(boundBar(admitted, bound)).toBe(bar);
});

test('the bar has at most 100 characters', () => {
  expect(boundBar(123_456_789, 12_345_678).length).toBeLessThanOrEqual(100);
});
