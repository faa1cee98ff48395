// A SharedRuleLimiter in place of a RuleLimiter, so that the suites of guards run with both: a file *.shared.real.test.ts
// replaces the class RuleLimiter, and imports the suite.

import type { RuleLimiterOptions } from 'relay-limiter';
import { afterAll, beforeAll, vi } from 'vitest';
import { SharedRuleLimiter } from '../../lib/redis/index.js';
import { RuleServer } from '../redis/support/rule-server.js';

const made: SharedRuleLimiter[] = [];
const realTime = performance.now.bind(performance);
let clock: (() => number) | undefined;

// The limiter measures its calls of the store by performance.now(), and the store tells the time of its own clock.
beforeAll(() => {
  vi.spyOn(performance, 'now').mockImplementation(() =>
    clock === undefined ? realTime() : clock() * 1000,
  );
});
afterAll(async () => {
  vi.restoreAllMocks();
  await Promise.all(made.map((limiter) => limiter.close()));
});

/** A SharedRuleLimiter with a simulated store, which answers at once. Closed after the tests of the file. */
export function sharedRules(
  mode: 'leased' | 'strict',
  options: RuleLimiterOptions,
): SharedRuleLimiter {
  clock = options.clock;
  const now = clock ?? (() => realTime() / 1000);
  const receivers: ((message: string) => void)[] = [];
  const server = new RuleServer(now, {}, (message) => {
    for (const receive of receivers) receive(message);
  });
  const call = (method: 'eval' | 'evalSha') => {
    return async (text: string, given: { keys: string[]; arguments: string[] }) =>
      server[method](text, given.keys, given.arguments);
  };
  const nothing = () => {};
  const subscriber = {
    ...{ on: nothing, off: nothing, connect: async () => {}, eval: nothing, evalSha: nothing },
    subscribe: async (_: string, receive: (message: string) => void) =>
      void receivers.push(receive),
    destroy: nothing,
  };
  const client = {
    ...{ on: nothing, off: nothing, connect: nothing, duplicate: () => subscriber },
    eval: call('eval'),
    evalSha: call('evalSha'),
  };
  // The native engine belongs to the built package, whose classes are other ones.
  const limiter = new SharedRuleLimiter({ ...options, client, mode, clock: now, engine: 'js' });
  made.push(limiter);
  return limiter;
}

/** For `vi.mock('relay-limiter', ...)`. */
export async function withSharedRules(
  original: () => Promise<unknown>,
  mode: 'leased' | 'strict' = 'strict',
): Promise<object> {
  const RuleLimiter = function RuleLimiter(options: RuleLimiterOptions) {
    return sharedRules(mode, options);
  };
  return { ...((await original()) as object), RuleLimiter };
}
