// SharedRateLimiter without a store; its options; and when refusals end, with a simulated store.

import { RateLimiter } from 'relay-limiter';
import { SharedRateLimiter, type SharedRateLimiterOptions } from 'relay-limiter/redis';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { codeOf, ENGINES, manualClock } from '../support/limiters.js';
import { World, type WorldNode } from './support/world.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

describe('SharedRateLimiter in mode local', () => {
  it('returns the verdicts of RateLimiter and needs no client', async () => {
    const clock = manualClock();
    const limit = { rateLimit: 2, burstLimit: 3, disconnectThreshold: 2, clock };
    const shared = new SharedRateLimiter({ ...limit, mode: 'local' });
    const local = new RateLimiter(limit);
    for (let i = 0; i < 6; i += 1) {
      const verdict = local.check('p');
      expect(i % 2 === 0 ? shared.check('p') : await shared.checkAsync('p')).toEqual(verdict);
      clock.now += 0.1;
    }
    expect(await shared.getViolationCount('p')).toBe(local.getViolationCount('p'));
    shared.removePeer('p');
    expect(shared.check('p', 3)).toEqual(['allow', 0]);
    expect(shared.getStats()).toMatchObject({ trackedPeers: 1, store: { state: 'none' } });
    await shared.ready();
    await shared.close();
  });
});

describe('SharedRateLimiter', () => {
  const client = { eval() {}, evalSha() {}, connect() {}, on() {}, off() {} };

  it.each<[string, object]>([
    ['a missing client', {}],
    ['a URL as the client', { client: 'redis://127.0.0.1' }],
    ['any object as the client', { client: { get() {} } }],
    ['an unknown mode', { client, mode: 'lax' }],
    ['an unknown policy', { client, onStoreFailure: 'panic' }],
    ['a rate of 0', { client, rateLimit: 0 }],
    ['leases of 0 seconds', { client, leaseSeconds: 0 }],
    ['leases that end before the reply', { client, leaseSeconds: 0.9, deadlineSeconds: 0.5 }],
    ['an infinite deadline', { client, deadlineSeconds: Infinity }],
    ['a prefix with braces', { client, prefix: 'a{b}' }],
    ['an empty prefix', { client, prefix: '' }],
    ['an unknown option', { client, rate: 1 }],
    ['an onBan that would never be called', { client, onBan() {} }],
  ])('refuses %s', (_, options) => {
    const make = () => new SharedRateLimiter(options as SharedRateLimiterOptions);
    expect(codeOf(make)).toBe('ERR_LIMITER_OPTION');
  });

  it('chooses its engine as RateLimiter does, before it calls the store, except in mode strict', async () => {
    const evalStub = vi.fn(async () => ['run', 99, '1', 1]);
    const make = (options: SharedRateLimiterOptions) =>
      codeOf(() => new SharedRateLimiter({ client: { ...client, eval: evalStub }, ...options }));
    vi.stubEnv('RELAY_LIMITER_ENGINE', 'another');
    for (const mode of ['leased', 'local'] as const) {
      expect(make({ mode })).toBe('ERR_LIMITER_ENGINE');
    }
    expect(evalStub).not.toHaveBeenCalled();
    const made = ENGINES.map((engine) => make({ mode: 'leased', engine }));
    made.push(make({ mode: 'strict' }));
    // The constructor calls the store twice: for a changed limit, and for a heartbeat.
    expect(evalStub).toHaveBeenCalledTimes(2 * made.length);
    for (const limiter of made as { returned: SharedRateLimiter }[]) {
      expect(limiter.returned).toBeInstanceOf(SharedRateLimiter);
      await limiter.returned.close();
    }
  });

  it('refuses with the time until the bucket contains the cost (strict)', async () => {
    const world = new World(1, { mode: 'strict', rateLimit: 0.5, burstLimit: 3 });
    const [shared] = world.nodes as [WorldNode];
    const check = async (cost = 1) => {
      const verdict = shared.checkAsync('p', cost);
      await world.time.run(0);
      return verdict;
    };
    await world.time.run(1);
    for (let n = 0; n < 3; n += 1) expect(await check()).toEqual(['allow', 0]);
    expect(await check()).toEqual(['delay', 2]);
    await world.time.run(0.5);
    expect((await check())[1]).toBeCloseTo(1.5);
    await world.time.run(1.6);
    expect(await check()).toEqual(['allow', 0]);
    expect(await check(4)).toEqual(['delay', Infinity]);
  });

  it('remembers a refusal for its time, and counts violations in the meantime (leased)', async () => {
    const world = new World(1, { rateLimit: 3, burstLimit: 5, disconnectThreshold: 6 });
    const [shared] = world.nodes as [WorldNode];
    await world.time.run(1);
    for (let n = 0; n < 5; n += 1) expect(await world.check(shared)).toBe(true);
    const refused = shared.checkAsync('p');
    await world.time.run(0);
    const [action, delay] = await refused;
    expect(action).toBe('delay');
    // Five checks took half a millisecond.
    expect(delay).toBeCloseTo(1 / 3 - 0.0005);
    const { calls } = shared.getStats().store;
    for (let n = 0; n < 4; n += 1) expect(shared.check('p')[0]).toBe('delay');
    expect(shared.check('p')).toEqual(['disconnect', 0]);
    await world.time.run(delay - 0.001);
    expect(shared.check('p')).toEqual(['disconnect', 0]);
    expect(shared.getStats().store.calls).toBe(calls);
    await world.time.run(0.002);
    expect(await world.check(shared)).toBe(true);
    const count = shared.getViolationCount('p');
    await world.time.run(0);
    expect(await count).toBe(7);
  });
});
