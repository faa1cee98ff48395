// SharedRuleLimiter in virtual time: how long the store keeps buckets that several plans or changed rules ask, and what
// becomes of leases.

import { afterEach, describe, expect, it, vi } from 'vitest';
import type { SharedRuleLimiter } from '../../../lib/redis/index.js';
import { type RuleOptions, RuleWorld } from '../support/rule-world.js';

let world: RuleWorld;
afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

async function start(options: RuleOptions): Promise<SharedRuleLimiter> {
  world = new RuleWorld(1, options);
  await world.settle();
  return world.nodes[0] as SharedRuleLimiter;
}

async function run<Value>(promise: Promise<Value>): Promise<Value> {
  promise.catch(() => {});
  await world.settle();
  return promise;
}

/** What the only rule has left of the key `a`. */
async function remaining(node: SharedRuleLimiter): Promise<number> {
  return (await run(node.peek('a'))).rules[0]?.remaining as number;
}

async function spendAll(node: SharedRuleLimiter): Promise<number> {
  let allowed = 0;
  while ((await world.check(node, 'a')).outcome === 'allow') allowed += 1;
  return allowed;
}

const rule = (rateLimit: number, burstLimit: number) => ({
  messages: { scope: 'account', rateLimit, burstLimit },
});
const options = (
  mode: 'leased' | 'strict',
  rateLimit: number,
  burstLimit: number,
): RuleOptions => ({
  mode,
  scopes: { account: {} },
  rules: rule(rateLimit, burstLimit),
});

describe.each(['leased', 'strict'] as const)('SharedRuleLimiter in mode %s', (mode) => {
  it('keeps a bucket until it is full again by the rate of the slowest plan', async () => {
    const plans = { fast: { messages: { rateLimit: 100, burstLimit: 100 } } };
    const node = await start({ ...options(mode, 0.1, 100), plans });
    await world.check(node, 'a', 50, undefined, 'fast');
    await world.time.run(60);
    const left = await remaining(node);
    expect(left).toBeGreaterThan(55);
    expect(left).toBeLessThan(57);
  });

  it('keeps it by a lowered rate from the first check on, also one that is refused', async () => {
    const node = await start(options(mode, 100, 100));
    await world.check(node, 'a', 60);
    await run(node.update({ rules: rule(0.1, 100) }));
    expect((await world.check(node, 'a', 90)).outcome).toBe('delay');
    await world.time.run(60);
    const left = await remaining(node);
    expect(left).toBeGreaterThan(45);
    expect(left).toBeLessThan(47);
  });

  it('gives back what a check has taken, whether from a lease or from the store', async () => {
    const node = await start(options(mode, 0.001, 40));
    for (let n = 0; n < 7; n += 1) await world.check(node, 'a');
    expect(node.getStats().leasedTokens > 0).toBe(mode === 'leased');
    await run(node.refund('a', 5));
    expect(await remaining(node)).toBeCloseTo(38, 1);
    expect(await spendAll(node)).toBe(38);
  });
});

describe('SharedRuleLimiter in mode leased', () => {
  it('does not spend what it has leased by rules that have changed, and returns it with the next check', async () => {
    const node = await start(options('leased', 0.001, 100));
    for (let n = 0; n < 12; n += 1) await world.check(node, 'a');
    expect(node.getStats().leasedTokens).toBeGreaterThan(5);
    await run(node.update({ rules: rule(0.001, 14) }));
    expect(await spendAll(node)).toBe(2);
  });

  it('peeks at what is left to it while a lease is being requested', async () => {
    const node = await start(options('leased', 0.0001, 100));
    let allowed = 0;
    let requests = 0;
    for (let n = 0; n < 60; n += 1) {
      const { checks } = world.server;
      if (node.check('a').outcome === 'allow') allowed += 1;
      expect(await remaining(node)).toBeCloseTo(100 - allowed, 1);
      if (world.server.checks > checks) requests += 1;
    }
    expect(requests).toBeGreaterThan(3);
  });

  it.each([1, 3])('peeks at the same if a reply of %i checks is overtaken', async (checks) => {
    const node = await start(options('leased', 0.0001, 100));
    await world.check(node, 'a');
    // The next check asks for the first lease; later ones spend it, until one asks for more.
    for (let n = 0; n < 12; n += 1) node.check('a');
    await world.settle();
    const before = await remaining(node);
    const inFlight: (() => void)[] = [];
    world.carry = (act) => inFlight.push(act);
    const { calls } = node.getStats().store;
    let allowed = 0;
    while (node.getStats().store.calls === calls) {
      if (node.check('a').outcome === 'allow') allowed += 1;
    }
    for (let n = 1; n < checks; n += 1) if (node.check('a').outcome === 'allow') allowed += 1;
    const peek = node.peek('a');
    await world.settle();
    for (const arrive of inFlight.splice(0)) arrive();
    expect(inFlight.length).toBe(2);
    inFlight[1]?.();
    expect((await run(peek)).rules[0]?.remaining).toBeCloseTo(before - allowed, 1);
    inFlight[0]?.();
    world.carry = undefined;
    expect(await remaining(node)).toBeCloseTo(before - allowed, 1);
  });

  it('goes on spending leases of rules that an update leaves as they are', async () => {
    const node = await start(options('leased', 0.001, 100));
    for (let n = 0; n < 12; n += 1) await world.check(node, 'a');
    await run(
      Promise.resolve(
        node.update({ rules: { ...rule(0.001, 100), more: { scope: 'account', rateLimit: 1 } } }),
      ),
    );
    await run(node.update({ rules: rule(0.001, 100) }));
    const { calls } = node.getStats().store;
    expect((await world.check(node, 'a')).outcome).toBe('allow');
    expect(node.getStats().store.calls).toBe(calls);
  });

  it('forgets a refusal of a plan when another plan is allowed', async () => {
    const plans = { paid: { messages: { rateLimit: 0.001, burstLimit: 4 } } };
    const node = await start({ ...options('leased', 0.001, 2), plans });
    expect(await spendAll(node)).toBe(2);
    const outcomes = [];
    for (let n = 0; n < 3; n += 1) {
      outcomes.push((await world.check(node, 'a', 1, undefined, 'paid')).outcome);
    }
    expect(outcomes).toEqual(['allow', 'allow', 'delay']);
  });
});

describe('SharedRuleLimiter.ready', () => {
  it('rejects after close, and names the class', async () => {
    const node = await start(options('strict', 1, 10));
    await run(node.close());
    await expect(node.ready()).rejects.toThrow('SharedRuleLimiter is closed');
  });
});
