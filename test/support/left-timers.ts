// Ends the real timers that a unit test leaves, such as the timer of background cleanups. On a slow machine they would fire
// in a later test of this process, and start again among its faked timers. A timer that `beforeAll` starts ends with the
// first test.

import { afterAll, afterEach } from 'vitest';

const { setTimeout, setInterval, clearTimeout } = globalThis;
const left: NodeJS.Timeout[] = [];

type Start = typeof setTimeout | typeof setInterval;

/** Returns `start`, changed to record its timers. */
function recorded<Original extends Start>(start: Original): Original {
  const starting = (...given: Parameters<Original>): NodeJS.Timeout => {
    const timer = (start as (...given: unknown[]) => NodeJS.Timeout)(...given);
    left.push(timer);
    return timer;
  };
  return Object.assign(starting, start) as unknown as Original;
}

function endLeft(): void {
  for (const timer of left.splice(0)) clearTimeout(timer);
}

globalThis.setTimeout = recorded(setTimeout);
globalThis.setInterval = recorded(setInterval);

afterEach(endLeft);

afterAll(() => {
  endLeft();
  Object.assign(globalThis, { setTimeout, setInterval });
});
