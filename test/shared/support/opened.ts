// Limiters with shared tables in the test's own process.

import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter,
} from 'relay-limiter';
import { onTestFinished } from 'vitest';

const CLASSES = {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter: RuleLimiter as unknown as new (options: object) => RuleLimiter,
};

/** A limiter that leaves its table when the test ends. */
export function opened<Name extends keyof typeof CLASSES>(
  name: Name,
  options: object,
): InstanceType<(typeof CLASSES)[Name]> {
  const limiter = new CLASSES[name](options);
  onTestFinished(() => {
    limiter.close();
    limiter.close();
  });
  return limiter as InstanceType<(typeof CLASSES)[Name]>;
}
