// The suite of connections.real.test.ts with a SharedRateLimiter in place of each RateLimiter.

import { vi } from 'vitest';
import './connections.real.test.js';

vi.mock('relay-limiter', async (original) => {
  const { withStandIn } = await import('../support/shared-stand-in.js');
  return withStandIn(original);
});
