// What the garbage collector does with a limiter that cleans up in the background.

import { RateLimiter } from 'relay-limiter';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { collectGarbage } from './support/garbage.js';
import { ENGINES, manualClock } from './support/limiters.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** Collects until `isDone`: V8 calls finalizers some macrotasks after it has collected. */
async function collectUntil(isDone: () => boolean): Promise<boolean> {
  for (let n = 0; n < 1000 && !isDone(); n += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    collectGarbage();
  }
  return isDone();
}

describe.each(ENGINES)('A limiter on the %s engine with a background cleanup', (engine) => {
  test('is garbage-collected without other references, and its timer ends before the next round', async () => {
    const limiter = (() => {
      const limiter = new RateLimiter({ engine, clock: manualClock(), cleanup: {} });
      limiter.check('peer');
      return new WeakRef(limiter);
    })();
    vi.advanceTimersByTime(120_000);
    expect(vi.getTimerCount()).toBe(1);
    expect(await collectUntil(() => limiter.deref() === undefined)).toBe(true);
    expect(await collectUntil(() => vi.getTimerCount() === 0)).toBe(true);
  });
});
