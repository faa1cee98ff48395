// How long a cleanup takes.

import { RateLimiter } from 'relay-limiter';
import { expect, test } from 'vitest';
import { ENGINES, manualClock } from './support/limiters.js';

test.each(ENGINES)('RateLimiter on the %s engine ends a cleanup after its budget', (engine) => {
  const clock = manualClock();
  const limiter = new RateLimiter({ engine, clock });
  const peers = 300_000;
  for (let n = 0; n < peers; n += 1) limiter.check(`peer-${n}`);
  clock.now += 100;
  // All of them take 4 milliseconds or more.
  expect(limiter.cleanupOldPeers(10, { budgetMs: 0.05 })).toBeLessThan(peers / 2);
  expect(limiter.cleanupOldPeers(10, { budgetMs: 1e9 })).toBeGreaterThan(peers / 2);
  expect(limiter.getStats().trackedPeers).toBe(0);
});
