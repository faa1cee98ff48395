// Fails a test file that leaves timers faked: the next file in this process would start with them.

import { afterAll, vi } from 'vitest';

afterAll(() => {
  if (vi.isFakeTimers()) {
    vi.useRealTimers();
    throw new Error('this test file left fake timers behind: call vi.useRealTimers() in afterAll');
  }
});
