// SharedRuleLimiter.update on a real server: the scripts reply what the simulated store replies, and other nodes follow.

import fc from 'fast-check';
import { SharedRuleLimiter } from 'relay-limiter/redis';
import { describe, expect, it } from 'vitest';
import { CHANGE_RULES, SYNC_RULES } from '../../../lib/redis/rules/rule-version.js';
import { SimulatedVersion } from '../support/simulated-version.js';
import { NO_DEADLINE, NO_STORE, PREFIX, storeOfTests } from '../support/store.js';

const anyName = fc.integer({ min: 1, max: 12 }).map((n) => `name${n}`);
const anyKnown = fc.oneof(
  { weight: 3, arbitrary: fc.constant('current') },
  { weight: 1, arbitrary: fc.constant('') },
  { weight: 1, arbitrary: fc.constantFrom('rlv1|1|a|b', 'rlv1|9|a|b', 'rlv1|500|c') },
);
const anyCall = fc.oneof(
  fc.tuple(fc.constant('sync' as const), anyKnown, fc.boolean()),
  fc.tuple(fc.constant('change' as const), anyKnown, anyName),
);

describe.skipIf(NO_STORE)('SharedRuleLimiter.update', () => {
  const real = storeOfTests();
  let runs = 0;

  it('has scripts that reply what the simulated store replies', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyCall, { maxLength: 40 }), async (calls) => {
        runs += 1;
        const key = `${PREFIX}:{version}:${runs}`;
        const simulated = new SimulatedVersion();
        for (const [which, given, more] of calls) {
          const known = given === 'current' ? (simulated.text.split('\n')[0] as string) : given;
          const args =
            which === 'sync'
              ? [known, ...(more ? [`${known}\n{"restored":"a|b\\n"}`] : [])]
              : [known, 'first', more, `{"of":"${more}|"}`];
          const script = which === 'sync' ? SYNC_RULES : CHANGE_RULES;
          const reply = await real.client.eval(script, { keys: [key], arguments: args });
          expect(reply).toBe(which === 'sync' ? simulated.sync(args) : simulated.change(args));
        }
      }),
      { numRuns: 50 },
    );
  });

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
