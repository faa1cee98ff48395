// Ends the real timers that a unit test leaves, such as that of background cleanups. Where the machine is slow they would
// fire in a later test of this process, and start again among its faked timers.

import { afterAll, afterEach } from 'vitest';

const { setTimeout, setInterval } = globalThis;
const left: NodeJS.Timeout[] = [];

type Start = typeof setTimeout | typeof setInterval;

/** The function as it is, except that its timers can be ended. */
function recorded<Original extends Start>(start: Original): Original {
  const starting = (...given: Parameters<Original>): NodeJS.Timeout => {
    const timer = (start as (...given: unknown[]) => NodeJS.Timeout)(...given);
    left.push(timer);
    return timer;
  };
  return Object.assign(starting, start) as unknown as Original;
}

globalThis.setTimeout = recorded(setTimeout);
globalThis.setInterval = recorded(setInterval);

afterEach(() => {
  for (const timer of left.splice(0)) clearTimeout(timer);
});

afterAll(() => {
  Object.assign(globalThis, { setTimeout, setInterval });
});
