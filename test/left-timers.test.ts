// Of test/support/left-timers.ts.

import { expect, test } from 'vitest';

const left: NodeJS.Timeout[] = [];
/** Which of them have ended: Node tells it by this member only. */
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
