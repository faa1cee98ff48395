// What test/support/left-timers.ts does between two tests: these run in this order.

import { expect, test } from 'vitest';

const left: NodeJS.Timeout[] = [];
/** Which timers have ended: Node has no public property for this. */
const ended = () => left.map((timer) => Reflect.get(timer, '_destroyed'));

test('a test may leave real timers', () => {
  left.push(
    setTimeout(() => {}, 3_600_000),
    setInterval(() => {}, 3_600_000),
  );
  expect(ended()).toEqual([false, false]);
});

test('the next test begins without them', () => {
  expect(ended()).toEqual([true, true]);
});
