// The suite of rules.real.test.ts with a SharedRuleLimiter in mode leased in place of each RuleLimiter.

import { vi } from 'vitest';
import './rules.real.test.js';

vi.mock('relay-limiter', async (original) => {
  const { withSharedRules } = await import('../support/shared-rules-stand-in.js');
  return withSharedRules(original, 'leased');
});
