// The suite of guard.test.ts with a SharedRateLimiter in place of each RateLimiter, which answers at once.

import { vi } from 'vitest';
import './guard.test.js';

vi.mock('relay-limiter', async (original) => {
  const { withLocalStandIn } = await import('../support/shared-stand-in.js');
  return withLocalStandIn(original);
});
