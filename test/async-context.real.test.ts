// The runtime's own timers: what the stubs of async-context.test.ts stand for.

import { AsyncLocalStorage } from 'node:async_hooks';
import { RateLimiter } from 'relay-limiter';
import { expect, test } from 'vitest';
import { ENGINES } from './support/limiters.js';

test.each(ENGINES)(
  'a background cleanup of engine %s sees no store of whoever made the limiter',
  async (engine) => {
    const context = new AsyncLocalStorage<string>();
    let limiter: RateLimiter | undefined;
    const seen = await new Promise((resolve) => {
      const clock = () => {
        resolve(context.getStore());
        return 1;
      };
      const cleanup = { everySeconds: 0.02 };
      context.run('maker', () => {
        limiter = new RateLimiter({ engine, clock, cleanup });
      });
    });
    limiter?.close();
    expect(seen).toBeUndefined();
  },
);
