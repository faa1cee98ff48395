// The clock that a limiter reads where it is given none, on both engines.

import { RateLimiter } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { selectEngine } from '../lib/engine/select.js';
import { ENGINES } from './support/limiters.js';

const seconds = () => Number(process.hrtime.bigint()) / 1e9;

describe.each(ENGINES)('The clock of the %s engine', (engine) => {
  test('brings a token per second at a rate of 1', () => {
    const limiter = new RateLimiter({ engine, rateLimit: 1, burstLimit: 1e6 });
    const before = seconds();
    limiter.check('peer', 1e6);
    const after = seconds();
    while (seconds() < after + 0.05);
    const start = seconds();
    const [action, delay] = limiter.check('peer', 1e6);
    const end = seconds();
    const refilled = 1e6 - delay;
    expect(action).toBe('delay');
    // However long the process is paused in between. The clocks may differ by a hundredth.
    expect(refilled).toBeGreaterThan((start - after) * 0.99 - 0.001);
    expect(refilled).toBeLessThan((end - before) * 1.01 + 0.001);
  });

  test('is the clock of a cleanup', () => {
    const limiter = new RateLimiter({ engine });
    limiter.check('peer');
    expect(limiter.cleanupOldPeers(1e6)).toBe(0);
    expect(limiter.cleanupOldPeers(-1)).toBe(1);
  });

  test('ends a lease', async () => {
    const table = selectEngine(engine).leaseTable();
    const end = table.now() + 0.05;
    table.set('a', 10, end);
    while (table.spend('a', 0) === undefined)
      await new Promise((resolve) => setTimeout(resolve, 1));
    expect(table.now()).toBeGreaterThanOrEqual(end);
  });
});
