// What a limit does when the store loses its data or its clock is set, and when it gets more calls than it answers in time:
// in virtual time, with a simulated store.

import { EventEmitter } from 'node:events';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { SharedRateLimiter } from '../../lib/redis/index.js';
import { ROUNDING, World, type WorldOptions } from './support/world.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const LIMIT = { rateLimit: 20, burstLimit: 100 };
const CLOSED = { ...LIMIT, onStoreFailure: 'closed' as const };

async function upWorld(nodes: number, options: WorldOptions): Promise<World> {
  const world = new World(nodes, options);
  await world.time.run(1);
  return world;
}

/** Makes a check at each node every 20 ms. */
async function flood(world: World, seconds: number, nodes = world.nodes): Promise<void> {
  for (let n = 0; n < seconds * 50; n += 1) {
    for (const node of nodes) await world.check(node);
    await world.time.run(0.02);
  }
}

function states(node: SharedRateLimiter | undefined): string[] {
  const changes: string[] = [];
  node?.on('state', ({ state, lostData = false }) => {
    changes.push(lostData ? `${state}, lost data` : state);
  });
  return changes;
}

describe.each(['leased', 'strict'] as const)('SharedRateLimiter in mode %s', (mode) => {
  it.each([-60, -3600])(
    'keeps the bound if the store’s clock is set by %d s after an outage',
    async (step) => {
      const world = await upWorld(1, { ...LIMIT, mode });
      const [node] = world.nodes as [SharedRateLimiter];
      await world.check(node);
      world.isAway = true;
      await flood(world, 1);
      world.isAway = false;
      await world.untilUp();
      await flood(world, 0.5);
      world.clockAhead += step;
      const before = world.admissions.length;
      await flood(world, 20);
      // Seconds of the outage, in which the policy gives the rate.
      expect(world.excess(LIMIT)).toBeLessThanOrEqual(LIMIT.rateLimit * 2);
      // At most five seconds until the next heartbeat notices it, in which nothing is refilled.
      expect(world.admissions.length - before).toBeGreaterThan(LIMIT.rateLimit * 10);
    },
  );

  it.each(['flush', 'an older state'])(
    'takes a store that goes on after %s for one that lost its data',
    async (kind) => {
      const world = await upWorld(2, { ...CLOSED, mode });
      const goBack = world.store.snapshot();
      const changes = world.nodes.map(states);
      await flood(world, 6);
      for (const node of world.nodes) await world.spendAll(node);
      if (kind === 'flush') world.store.flush();
      else goBack();
      // Nodes notice it at their next heartbeat; until then the buckets are full once.
      await world.time.run(6);
      const since = world.admissions.length;
      expect(changes).toEqual([['up, lost data'], ['up, lost data']]);
      for (const node of world.nodes) await world.spendAll(node);
      expect(world.admissions.length - since).toBeLessThanOrEqual(LIMIT.burstLimit);
      await flood(world, 6);
      // Each loss is noticed once.
      expect(changes.flat()).toHaveLength(2);
    },
  );
});

describe('SharedRateLimiter', () => {
  it.each([-3600, 3600])(
    'gets back what a dead node had on lease if the store’s clock is set by %d s',
    async (step) => {
      const world = await upWorld(2, { ...CLOSED, leaseSeconds: 2 });
      const [dead, node] = world.nodes as [SharedRateLimiter, SharedRateLimiter];
      for (let n = 0; n < 3; n += 1) await world.check(dead, 14);
      expect(world.leasedInStore()).toBeGreaterThan(10);
      world.disconnected.add(dead);
      world.clockAhead += step;
      await world.time.run(26);
      expect(node.getStats().store.nodes).toBe(1);
      const before = world.admissions.length;
      await world.spendAll(node);
      expect(world.admissions.length - before).toBe(LIMIT.burstLimit);
    },
  );

  it('keeps the bound by a node that starts after a loss of data', async () => {
    const world = await upWorld(2, CLOSED);
    const [node, holder] = world.nodes as [SharedRateLimiter, SharedRateLimiter];
    const held = () => holder.getStats().leasedTokens;
    for (let n = 0; n < 60 && held() < 25; n += 1) await world.check(holder);
    expect(held()).toBeGreaterThanOrEqual(25);
    await world.loseData();
    await world.untilUp();
    await world.check(node);
    const newcomer = world.start();
    const changes = states(newcomer);
    await world.time.run(5);
    const since = world.admissions.length;
    await world.spendAll(newcomer);
    await world.spendLease(holder);
    expect(world.admissions.length - since).toBeLessThanOrEqual(LIMIT.burstLimit);
    expect(world.excess(LIMIT)).toBeLessThanOrEqual(ROUNDING);
    // The loss was before its time.
    expect(changes).toEqual([]);
  });

  it('notices a loss of data in a shard of a cluster that it has never used', async () => {
    const world = await upWorld(2, { ...CLOSED, rateLimit: 1, isCluster: true });
    const [one, other] = world.nodes as [SharedRateLimiter, SharedRateLimiter];
    void other.checkAsync('in another shard');
    await world.time.run(5);
    await world.spendAll(one);
    world.store.restart();
    await world.time.run(0.1);
    await world.spendAll(other);
    await world.spendAll(one);
    expect(world.excess({ ...CLOSED, rateLimit: 1 })).toBeLessThanOrEqual(ROUNDING);
  });

  it('takes a server for fresh that was started before it', async () => {
    const world = await upWorld(0, CLOSED);
    const node = world.start();
    world.nodes.push(node);
    await world.time.run(0.1);
    await world.spendAll(node);
    expect(world.admissions).toHaveLength(LIMIT.burstLimit);
  });

  it.each(['leased', 'strict'] as const)(
    'delays what is too much for the store, and does not take it for down (%s)',
    async (mode) => {
      const world = await upWorld(1, { ...LIMIT, mode, onStoreFailure: 'open' });
      const [node] = world.nodes as [SharedRateLimiter];
      const changes = states(node);
      void node.checkAsync('peer that loads the script');
      await world.time.run(1);
      world.roundTripSeconds = 0.04;
      const verdicts: Promise<unknown>[] = [];
      let most = 0;
      for (let round = 0; round < 2; round += 1) {
        for (let n = 0; n < 12_000; n += 1) verdicts.push(node.checkAsync(`${round}-${n}`));
        most = Math.max(most, node.getStats().store.inFlight);
        await world.time.run(0.2);
      }
      const answered = (await Promise.all(verdicts)) as [string, number][];
      const delayed = answered.filter(([action]) => action === 'delay').length;
      expect(most).toBeLessThanOrEqual(1000);
      expect(delayed).toBeGreaterThan(2000);
      // All others were answered by the store, which knows none of these peers.
      expect(node.getStats()).toMatchObject({ fallbackVerdicts: 0, overloadVerdicts: delayed });
      expect(node.getStats().store).toMatchObject({ state: 'up', failures: 0, inFlight: 0 });
      expect(changes).toEqual([]);
    },
  );

  it('loads a script once for all calls that wait for it', async () => {
    const world = await upWorld(1, LIMIT);
    const [node] = world.nodes as [SharedRateLimiter];
    world.roundTripSeconds = 0.02;
    const load = vi.spyOn(world.store, 'eval');
    const verdicts = Promise.all(Array.from({ length: 50 }, (_, n) => node.checkAsync(`p${n}`)));
    await world.time.run(0.2);
    await verdicts;
    const scripts = load.mock.calls.filter(([text]) => text.startsWith('-- run'));
    expect(scripts).toHaveLength(1);
  });

  it('rejects ready() after two seconds if the client keeps the calls', async () => {
    const world = new World(0, { ...LIMIT, deadlineSeconds: 0.1 });
    world.isSilent = true;
    const node = world.start();
    let code: unknown;
    node.ready().catch((error) => {
      code = error.code;
    });
    await world.time.run(1.9);
    expect(code).toBeUndefined();
    await world.time.run(0.2);
    expect(code).toBe('ERR_LIMITER_STORE');
  });

  it('adds one listener to a client, however many limiters share it, and removes it with the last', async () => {
    const client = Object.assign(new EventEmitter(), {
      eval: () => Promise.reject(new Error('no store')),
      evalSha: () => Promise.reject(new Error('no store')),
      connect: async () => {},
    });
    const limiters = Array.from({ length: 12 }, (_, n) => {
      return new SharedRateLimiter({ client, prefix: `limit-${n}` });
    });
    expect(client.listenerCount('error')).toBe(1);
    const [first, ...others] = limiters as [SharedRateLimiter, ...SharedRateLimiter[]];
    await Promise.all(others.map((one) => one.close()));
    await others[0]?.close();
    expect(client.listenerCount('error')).toBe(1);
    await first.close();
    expect(client.listenerCount('error')).toBe(0);
  });
});
