// SharedRuleLimiter.update on a real server: other nodes follow.

import { SharedRuleLimiter } from 'relay-limiter/redis';
import { describe, expect, it } from 'vitest';
import { NO_DEADLINE, NO_STORE, PREFIX, storeOfTests } from '../support/store.js';

describe.skipIf(NO_STORE)('SharedRuleLimiter.update', () => {
  const real = storeOfTests();

  it('reaches the other nodes, and leaves a key of somebody else as it is', async () => {
    const prefix = `${PREFIX}-updates`;
    const options = {
      client: real.client,
      prefix,
      ...NO_DEADLINE,
      scopes: { account: {} },
      rules: { messages: { scope: 'account', rateLimit: 1e-6, burstLimit: 10 } },
    };
    const [one, two] = [new SharedRuleLimiter(options), new SharedRuleLimiter(options)];
    await one.update({
      rules: { messages: { scope: 'account', rateLimit: 1e-6, burstLimit: 3 } },
      bans: { account: { violations: 100, withinSeconds: 60, seconds: [60, Infinity] } },
    });
    const limitOf = async (node: SharedRuleLimiter) => (await node.peek('a')).rules[0]?.limit;
    expect(await limitOf(one)).toBe(3);
    await expect.poll(() => limitOf(two), { timeout: 30_000 }).toBe(3);
    await real.client.set(`{${prefix}}:rules#rules`, 'mine');
    await expect(one.update({ deny: { account: ['x'] } })).rejects.toThrow('WRONGTYPE');
    expect(await real.client.get(`{${prefix}}:rules#rules`)).toBe('mine');
    await Promise.all([one.close(), two.close()]);
  });
});
