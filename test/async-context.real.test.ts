// Async contexts with the runtime's own timers, for which async-context.test.ts has stubs.

import { AsyncLocalStorage } from 'node:async_hooks';
import { RateLimiter } from 'relay-limiter';
import { expect, test } from 'vitest';
import { ENGINES } from './support/limiters.js';

test.each(ENGINES)(
  'a background cleanup on the %s engine runs outside of the async context that created the limiter',
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
