// A store that is slow, silent, unreachable or restarted, in virtual time: which verdict is given, and exactly when.

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

describe.each(MODES)('SharedRateLimiter in mode %s', (mode) => {
  it('waits for a silent store until the deadline and no longer', async () => {
    const world = await upWorld(1, { ...LIMIT, mode, onStoreFailure: 'open' });
    const [node] = world.nodes as [SharedRateLimiter];
    world.isSilent = true;
    const startedAt = world.time.now;
    const answered = node.checkAsync('p').then((verdict) => [verdict, world.time.now - startedAt]);
    await world.time.run(0.2);
    const [verdict, seconds] = (await answered) as [unknown, number];
    expect(verdict).toEqual(['allow', 0]);
    expect(seconds).toBeCloseTo(0.1);
    expect(node.getStats().fallbackVerdicts).toBe(1);
  });

  it('sends only heartbeats to a silent store, and uses it again when it answers', async () => {
    const world = await upWorld(2, { ...LIMIT, mode, onStoreFailure: 'closed' });
    let slowest = 0;
    let checks = 0;
    /** Checks a new peer each time, so that each check is a call. */
    const check = async () => {
      checks += 1;
      const node = world.nodes[checks % 2] as SharedRateLimiter;
      const startedAt = world.time.now;
      await node.checkAsync(`peer-${checks}`);
      slowest = Math.max(slowest, world.time.now - startedAt);
    };
    /** Makes a thousand checks per second. */
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
    // Calls made before the store counted as down, within one deadline.
    for (const number of inFlight) expect(number).toBeLessThanOrEqual(60);
    await flood(9);
    expect(world.nodes.map((node) => node.getStats().store.inFlight)).toEqual(inFlight);
    expect(world.nodes.map((node) => node.getStats().store.calls)).toEqual(calls);
    world.endSilence();
    await flood(0.5);
    await world.time.run(1);
    // Timers count whole milliseconds.
    expect(slowest).toBeLessThanOrEqual(0.1 + 0.001 + 1e-6);
    for (const [at, node] of world.nodes.entries()) {
      expect(node.getStats().store).toMatchObject({ state: 'up', inFlight: 0, downs: 1 });
      expect(node.getStats().store.calls).toBeGreaterThan(calls[at] as number);
    }
  });

  it('applies the failure policy to a check before the first heartbeat, and refuses no key', async () => {
    const world = new World(0, { ...LIMIT, mode, onStoreFailure: 'open' });
    world.isAway = true;
    const node = world.start();
    const failures: unknown[] = [];
    node.on('failure', (failure) => failures.push(failure));
    const verdict = node.checkAsync('p');
    await world.time.run(0.2);
    expect(await verdict).toEqual(['allow', 0]);
    expect(failures).toEqual([]);
  });

  it('rejects ready() with ERR_LIMITER_STORE if it is closed meanwhile, and afterwards', async () => {
    const world = new World(0, { ...LIMIT, mode });
    world.isSilent = true;
    const node = world.start();
    const codes: unknown[] = [];
    const recordCode = (error: { code?: unknown }) => codes.push(error.code);
    node.ready().catch(recordCode);
    void node.close();
    await world.time.run(5);
    expect(codes).toEqual(['ERR_LIMITER_STORE']);
    node.ready().catch(recordCode);
    const answered = world.start();
    world.endSilence();
    await answered.ready();
    void answered.close();
    await world.time.run(5);
    answered.ready().catch(recordCode);
    await world.time.run(0);
    expect(codes).toEqual(['ERR_LIMITER_STORE', 'ERR_LIMITER_STORE', 'ERR_LIMITER_STORE']);
  });

  it('works normally if replies take slightly less than the deadline', async () => {
    const world = await upWorld(1, { ...LIMIT, mode });
    const [node] = world.nodes as [SharedRateLimiter];
    for (const _ of ['first', 'lease']) {
      void node.checkAsync('peer that loads the scripts');
      await world.time.run(1);
    }
    world.roundTripSeconds = 0.099;
    const verdicts = Promise.all([1, 2, 3, 4, 5].map(() => node.checkAsync('p')));
    await world.time.run(1);
    for (const verdict of await verdicts) expect(verdict).toEqual(['allow', 0]);
    expect(node.getStats()).toMatchObject({ fallbackVerdicts: 0, store: { failures: 0 } });
  });

  it('keeps the bound if one of two nodes loses its network, and the other goes on with the store', async () => {
    const world = await upWorld(2, { ...LIMIT, mode, onStoreFailure: 'closed' });
    const [far, near] = world.nodes as [SharedRateLimiter, SharedRateLimiter];
    /** Makes 200 checks per second at each node, and returns how many each admits. */
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
    world.disconnected.add(far);
    await flood(1);
    const apart = await flood(0.5);
    expect(apart.far).toBe(0);
    expect(apart.near).toBeGreaterThan(0);
    expect(far.getStats().store.state).toBe('down');
    world.disconnected.clear();
    await flood(1.5);
    expect((await flood(0.5)).far).toBeGreaterThan(0);
    expect(far.getStats()).toMatchObject({ store: { state: 'up', downs: 1 } });
    expect(far.getStats().fallbackVerdicts).toBeGreaterThan(0);
    expect(near.getStats()).toMatchObject({
      fallbackVerdicts: 0,
      store: { state: 'up', downs: 0 },
    });
    expect(world.excess(LIMIT)).toBeLessThanOrEqual(ROUNDING);
  });
});

describe('SharedRateLimiter', () => {
  it.each(['share', 'closed'] as const)(
    'grants no extra burst after the store lost its data (%s)',
    async (onStoreFailure) => {
      const world = await upWorld(3, { ...LIMIT, nodes: 3, onStoreFailure });
      /** Makes a check at each node every 5 ms, and returns how many are admitted. */
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
      world.store.restart();
      world.isAway = false;
      await flood(1.5);
      expect(world.excess(LIMIT)).toBeLessThanOrEqual(ROUNDING);
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

  it.each<[unknown]>([[null], [[]], [['a', 'b', 'c', 'd']]])(
    'treats a store as down that replies %j',
    async (reply) => {
      const world = await upWorld(0, LIMIT);
      const noop = () => {};
      const client = { eval: async () => reply, evalSha: async () => reply, connect: noop };
      const emitter = { on: noop, off: noop };
      const shared = new SharedRateLimiter({
        client: { ...client, ...emitter },
        onStoreFailure: 'closed',
      });
      const ready = expect(shared.ready()).rejects.toThrow('invalid reply');
      await world.time.run(3);
      await ready;
      expect((await shared.checkAsync('p'))[0]).toBe('delay');
      expect(shared.getStats().store.state).toBe('down');
    },
  );
});
