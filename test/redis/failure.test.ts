// The store slow, silent, gone, back and empty, in virtual time: what is answered, and exactly when.

import { afterEach, describe, expect, it, vi } from 'vitest';
import { SharedRateLimiter } from '../../lib/redis/index.js';
import { ROUNDING, World, type WorldOptions } from './support/world.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const MODES = ['leased', 'strict'] as const;
const LIMIT = { rateLimit: 50, burstLimit: 20 };

async function upWorld(nodes: number, options: WorldOptions): Promise<World> {
  const world = new World(nodes, options);
  await world.time.run(1);
  return world;
}

describe.each(MODES)('a store that does not answer (%s)', (mode) => {
  it('is waited for until the deadline, and no longer', async () => {
    const world = await upWorld(1, { ...LIMIT, mode, onStoreFailure: 'open' });
    const [node] = world.nodes as [SharedRateLimiter];
    world.isSilent = true;
    const askedAt = world.time.now;
    const answered = node.checkAsync('p').then((verdict) => [verdict, world.time.now - askedAt]);
    await world.time.run(0.2);
    const [verdict, seconds] = (await answered) as [unknown, number];
    expect(verdict).toEqual(['allow', 0]);
    expect(seconds).toBeCloseTo(0.1);
    expect(node.getStats().fallbackVerdicts).toBe(1);
  });

  it('is asked nothing but for signs of life, so nothing piles up, and is used when it is back', async () => {
    const world = await upWorld(2, { ...LIMIT, mode, onStoreFailure: 'closed' });
    let slowest = 0;
    let checks = 0;
    /** A new peer each time: each check is a call. */
    const check = async () => {
      checks += 1;
      const node = world.nodes[checks % 2] as SharedRateLimiter;
      const askedAt = world.time.now;
      await node.checkAsync(`peer-${checks}`);
      slowest = Math.max(slowest, world.time.now - askedAt);
    };
    /** A thousand checks a second. */
    const flood = async (seconds: number) => {
      for (let n = 0; n < seconds * 100; n += 1) {
        for (let i = 0; i < 10; i += 1) void check();
        await world.time.run(0.01);
      }
    };
    await flood(0.5);
    world.isSilent = true;
    await flood(1);
    const inFlight = world.nodes.map((node) => node.getStats().store.inFlight);
    const calls = world.nodes.map((node) => node.getStats().store.calls);
    // What was asked before it was known to be down, within a deadline.
    for (const number of inFlight) expect(number).toBeLessThanOrEqual(60);
    await flood(9);
    expect(world.nodes.map((node) => node.getStats().store.inFlight)).toEqual(inFlight);
    expect(world.nodes.map((node) => node.getStats().store.calls)).toEqual(calls);
    world.speak();
    await flood(0.5);
    await world.time.run(1);
    expect(slowest).toBeLessThanOrEqual(0.1 + 1e-6);
    for (const [at, node] of world.nodes.entries()) {
      expect(node.getStats().store).toMatchObject({ state: 'up', inFlight: 0, downs: 1 });
      expect(node.getStats().store.calls).toBeGreaterThan(calls[at] as number);
    }
  });

  it('in less than the deadline is used as ever', async () => {
    const world = await upWorld(1, { ...LIMIT, mode });
    const [node] = world.nodes as [SharedRateLimiter];
    void node.checkAsync('loads the script');
    await world.time.run(1);
    world.tripSeconds = 0.099;
    const verdicts = Promise.all([1, 2, 3, 4, 5].map(() => node.checkAsync('p')));
    await world.time.run(1);
    for (const verdict of await verdicts) expect(verdict).toEqual(['allow', 0]);
    expect(node.getStats()).toMatchObject({ fallbackVerdicts: 0, store: { failures: 0 } });
  });
});

describe.each(MODES)('a node that loses its network (%s)', (mode) => {
  it('falls back alone: the other goes on with the store, and the bound holds', async () => {
    const world = await upWorld(2, { ...LIMIT, mode, onStoreFailure: 'closed' });
    const [far, near] = world.nodes as [SharedRateLimiter, SharedRateLimiter];
    /** How many of its checks each is allowed, of 200 per second. */
    const flood = async (seconds: number) => {
      const allowed = { far: 0, near: 0 };
      for (let n = 0; n < seconds * 200; n += 1) {
        if (await world.check(far)) allowed.far += 1;
        if (await world.check(near)) allowed.near += 1;
        await world.time.run(0.005);
      }
      return allowed;
    };
    await flood(0.5);
    world.cutOff.add(far);
    await flood(1);
    const apart = await flood(0.5);
    expect(apart.far).toBe(0);
    expect(apart.near).toBeGreaterThan(0);
    expect(far.getStats().store.state).toBe('down');
    world.cutOff.clear();
    await flood(1.5);
    expect((await flood(0.5)).far).toBeGreaterThan(0);
    expect(far.getStats()).toMatchObject({ store: { state: 'up', downs: 1 } });
    expect(far.getStats().fallbackVerdicts).toBeGreaterThan(0);
    expect(near.getStats()).toMatchObject({
      fallbackVerdicts: 0,
      store: { state: 'up', downs: 0 },
    });
    expect(world.over(LIMIT)).toBeLessThanOrEqual(ROUNDING);
  });
});

describe('a store that was restarted', () => {
  it.each(['share', 'closed'] as const)(
    'and is empty, is no burst (%s)',
    async (onStoreFailure) => {
      const world = await upWorld(3, { ...LIMIT, nodes: 3, onStoreFailure });
      /** Checks by all nodes, every 5 ms. */
      const flood = async (seconds: number) => {
        const before = world.admissions.length;
        for (let n = 0; n < seconds * 200; n += 1) {
          for (const node of world.nodes) await world.check(node);
          await world.time.run(0.005);
        }
        return world.admissions.length - before;
      };
      const states: object[] = [];
      world.nodes[0]?.on('state', ({ state, lostData = false }) =>
        states.push({ state, lostData }),
      );
      await flood(0.7);
      world.isAway = true;
      await flood(1);
      const whileAway = await flood(0.5);
      if (onStoreFailure === 'share') expect(whileAway).toBeGreaterThan(0);
      else expect(whileAway).toBe(0);
      world.twin.restart();
      world.isAway = false;
      await flood(1.5);
      expect(world.over(LIMIT)).toBeLessThanOrEqual(ROUNDING);
      expect(states).toEqual([
        { state: 'down', lostData: false },
        { state: 'up', lostData: true },
      ]);
      for (const node of world.nodes) {
        expect(node.getStats().store).toMatchObject({ state: 'up', inFlight: 0, downs: 1 });
      }
      expect(await flood(0.5)).toBeGreaterThan(0);
    },
  );
});

describe('a reply that is none of ours', () => {
  it.each([null, [], ['a', 'b', 'c', 'd']])('%j: the store is taken for gone', async (reply) => {
    const world = await upWorld(0, LIMIT);
    const nothing = () => {};
    const client = { eval: async () => reply, evalSha: async () => reply, connect: nothing };
    const emitter = { on: nothing, off: nothing };
    const shared = new SharedRateLimiter({
      client: { ...client, ...emitter },
      onStoreFailure: 'closed',
    });
    const ready = expect(shared.ready()).rejects.toThrow('cannot be understood');
    await world.time.run(3);
    await ready;
    expect((await shared.checkAsync('p'))[0]).toBe('delay');
    expect(shared.getStats().store.state).toBe('down');
  });
});
