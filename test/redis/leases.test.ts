// The worst moments for the bound of mode `leased`, and what else depends on exact times: in virtual time, on either
// engine, with a simulated store.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { EngineName } from '../../lib/index.js';
import type { SharedRateLimiter } from '../../lib/redis/index.js';
import { ENGINES } from '../support/limiters.js';
import { uncaught } from '../support/uncaught.js';
import { ROUNDING, World, type WorldOptions } from './support/world.js';

let world: World;
let engine: EngineName;
const createWorld = (nodes: number, options: WorldOptions) =>
  new World(nodes, { engine, ...options });
const first = () => world.nodes[0] as SharedRateLimiter;
afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

describe.each(ENGINES)('SharedRateLimiter in mode leased, with the %s engine,', (name) => {
  beforeEach(() => {
    engine = name;
  });

  describe('with a lease', () => {
    it('makes one look-up in the engine and one clock read per covered check', async () => {
      world = createWorld(1, { rateLimit: 10, burstLimit: 100 });
      await world.lease(first());
      world.clockReads = 0;
      const get = vi.spyOn(Map.prototype, 'get');
      const verdict = first().check('p');
      const lookUps = get.mock.calls.length;
      get.mockRestore();
      expect(verdict).toEqual(['allow', 0]);
      expect([lookUps, world.clockReads]).toEqual([name === 'js' ? 1 : 0, 1]);
    });

    // Long keys of an attacker must not fill the process. V8 also gives all very long strings of one length the same
    // hash.
    it('keeps a long key as a digest', async () => {
      world = createWorld(1, { rateLimit: 10, burstLimit: 100 });
      const key = 'x'.repeat(65_536);
      const set = vi.spyOn(Map.prototype, 'set');
      const verdicts = [first().checkAsync(key), first().checkAsync(key)];
      await world.time.run(0.001);
      const longest = Math.max(...set.mock.calls.map(([id]) => String(id).length));
      set.mockRestore();
      expect(await Promise.all(verdicts)).toEqual(Array(2).fill(['allow', 0]));
      expect(longest).toBeLessThan(200);
      expect(first().check(key)).toEqual(['allow', 0]);
      expect(first().check(`${key}x`)[0]).toBe('delay');
    });

    it('requests the next lease once three quarters are spent, and spends the rest in the meantime', async () => {
      world = createWorld(1, { rateLimit: 10, burstLimit: 100 });
      await world.lease(first());
      const before = first().getStats();
      await world.spendLease(first());
      expect(await world.check(first(), 2, true)).toBe(true);
      const { leasedTokens, store } = first().getStats();
      expect(store.calls).toBe(before.store.calls + 1);
      expect(leasedTokens).toBeGreaterThan(before.leasedTokens);
    });

    it('does not carry over a lease that has ended at the node but not yet in the store', async () => {
      world = createWorld(1, { rateLimit: 10, burstLimit: 100 });
      for (let n = 0; n < 40; n += 1) await world.check(first());
      expect(world.leasedAtNodes()).toBeGreaterThan(10);
      await world.time.run(20 * 0.995);
      expect(world.leasedAtNodes()).toBe(0);
      expect(world.leasedInStore()).toBeGreaterThan(10);
      await world.check(first());
      expect(world.leasedAtNodes()).toBeLessThanOrEqual(world.leasedInStore());
    });

    it('keeps the bound if leases are spent at their end and the bucket’s key could have expired', async () => {
      const limit = { rateLimit: 5, burstLimit: 100 };
      world = createWorld(6, limit);
      for (const node of world.nodes) for (let n = 0; n < 4; n += 1) await world.check(node);
      await world.time.run(20 * 0.985);
      for (const node of world.nodes) await world.spendLease(node);
      expect(world.admissions.length).toBeGreaterThan(40);
      await world.time.run(1.5);
      await world.spendAll(first());
      expect(world.excess(limit)).toBeLessThanOrEqual(ROUNDING);
    });

    it('keeps the bound if a lease that the store has lost is spent at its end', async () => {
      const limit = { rateLimit: 6, burstLimit: 100, onStoreFailure: 'closed' as const };
      world = createWorld(14, limit);
      for (const node of world.nodes) for (let n = 0; n < 4; n += 1) await world.check(node);
      const leasedAt = world.time.now;
      await world.loseData();
      await world.untilUp();
      const leasesEnd = world.time.now + 20;
      await world.time.run(leasedAt + 19.7 - world.time.now);
      for (const node of world.nodes) await world.spendLease(node);
      await world.time.run(leasesEnd + 0.1 - world.time.now);
      await world.spendAll(first());
      expect(world.excess(limit)).toBeLessThanOrEqual(ROUNDING);
      // Later the whole burst is granted again.
      await world.time.run(100 / 6 + 20);
      const before = world.admissions.length;
      await world.spendAll(first());
      expect(world.admissions.length - before).toBeGreaterThanOrEqual(50);
    });

    it('keeps the bound if the store loses the short lease of an expensive check', async () => {
      const limit = { rateLimit: 50, burstLimit: 100, onStoreFailure: 'closed' as const };
      world = createWorld(2, limit);
      const [one, other] = world.nodes as [SharedRateLimiter, SharedRateLimiter];
      await world.check(other);
      await other.removePeer('p');
      expect(await world.check(one, 90, true)).toBe(false);
      expect(world.leasedAtNodes()).toBe(90);
      await world.loseData();
      await world.time.run(4);
      await world.check(one, 90, true);
      await world.spendAll(other);
      expect(world.excess(limit)).toBeLessThanOrEqual(ROUNDING);
    });

    it('covers an expensive check that is repeated after its DELAY', async () => {
      world = createWorld(1, { rateLimit: 50, burstLimit: 100 });
      await world.time.run(0.1);
      const [action, seconds] = first().check('p', 90);
      expect([action, seconds]).toEqual(['delay', 0.1]);
      await world.time.run(seconds);
      expect(first().check('p', 90)).toEqual(['allow', 0]);
    });

    it.each([
      ['all of the burst', 100, {}],
      ['one token', 1, { leaseSeconds: 10 }],
    ])(
      'can spend a lease of %s that arrives just within the deadline',
      async (_, cost, options) => {
        world = createWorld(1, {
          rateLimit: 0.001,
          burstLimit: 100,
          deadlineSeconds: 5,
          ...options,
        });
        for (const _ of ['first', 'lease']) {
          void first().checkAsync('peer that loads the scripts');
          await world.time.run(1);
        }
        world.roundTripSeconds = 4.9;
        const verdict = first().checkAsync('p', cost);
        await world.time.run(5);
        expect(await verdict).toEqual(['allow', 0]);
        // The DELAY of `check` is the longest time that the reply may take.
        expect(first().check('q', cost)).toEqual(['delay', 5]);
        await world.time.run(5);
        expect(first().check('q', cost)).toEqual(['allow', 0]);
      },
    );

    it('does not carry over a lease from before a loss of data into one with a lost reply', async () => {
      world = createWorld(1, { rateLimit: 10, burstLimit: 100, onStoreFailure: 'closed' });
      for (let n = 0; n < 40; n += 1) await world.check(first());
      await world.loseData();
      await world.untilUp();
      // The bucket has refilled one or two tokens. They are leased ahead of use, but the reply is lost.
      await world.time.run(0.7);
      const { store } = first().getStats();
      world.losesReplies = true;
      while (first().getStats().store.calls === store.calls) await world.check(first(), 1, true);
      world.losesReplies = false;
      const held = world.leasedAtNodes();
      expect(held).toBeGreaterThan(world.leasedInStore());
      expect(world.leasedInStore()).toBeGreaterThan(0);
      await world.time.run(2);
      expect(await world.check(first(), held + 1)).toBe(true);
      expect(world.leasedAtNodes() + held + 1).toBeLessThanOrEqual(world.leasedInStore());
    });

    it.each([1, 5, 9])(
      'keeps the bound if the store loses its data twice within the lifetime of a lease, %s s apart',
      async (seconds) => {
        const limit = { rateLimit: 50, burstLimit: 100, onStoreFailure: 'closed' as const };
        world = createWorld(16, { ...limit, leaseSeconds: 30 });
        const some = world.nodes.slice(0, 8);
        const others = world.nodes.slice(8);
        for (const node of some) for (let n = 0; n < 2; n += 1) await world.check(node);
        await world.loseData();
        await world.untilUp();
        await world.time.run(seconds);
        for (const node of others) for (let n = 0; n < 2; n += 1) await world.check(node);
        await world.loseData();
        await world.untilUp();
        await world.time.run(2);
        for (const node of world.nodes) await world.spendLease(node);
        for (const node of world.nodes) await world.spendAll(node);
        expect(world.excess(limit)).toBeLessThanOrEqual(ROUNDING);
      },
    );
  });

  it('refills what first checks took only once no node can still admit them', async () => {
    const limit = { rateLimit: 100, burstLimit: 99 };
    world = createWorld(3, limit);
    for (const node of world.nodes) for (let n = 0; n < 2; n += 1) void node.checkAsync('loads');
    await world.time.run(1);
    world.roundTripSeconds = 0.09;
    const verdicts = world.nodes.map((node) => node.checkAsync('p', 33));
    await world.time.run(0.095);
    for (const [action] of await Promise.all(verdicts)) {
      expect(action).toBe('allow');
      world.admissions.push({ at: world.time.now, cost: 33 });
    }
    // The store decided about these 0.045 seconds before they were admitted.
    world.roundTripSeconds = 0;
    expect(await world.check(first(), 3)).toBe(false);
    expect(world.excess(limit)).toBeLessThanOrEqual(ROUNDING);
    await world.time.run(0.6);
    expect(await world.check(first(), 3)).toBe(true);
  });

  it('refills what first checks took although new nodes go on making first checks', async () => {
    const limit = { rateLimit: 10, burstLimit: 20 };
    world = createWorld(0, limit);
    const held: number[] = [];
    for (let n = 0; n < 100; n += 1) {
      const node = world.start();
      await world.time.run(0.05);
      expect(await world.check(node)).toBe(true);
      const [bucket] = [...world.store.buckets.values()];
      held.push(bucket?.leases.length ?? 0);
      await world.time.run(0.1);
    }
    expect(Math.max(...held)).toBe(3);
    expect(world.excess(limit)).toBeLessThanOrEqual(ROUNDING);
  });

  it('answers a check that needs two requests within one deadline', async () => {
    world = createWorld(1, { rateLimit: 10, burstLimit: 100 });
    await world.lease(first());
    first().removePeer('p');
    await world.time.run(1);
    world.roundTripSeconds = 0.07;
    const startedAt = world.time.now;
    const one = first().checkAsync('p');
    const other = first().checkAsync('p', 60);
    const answered = other.then(() => world.time.now - startedAt);
    await world.time.run(0.2);
    expect(await Promise.all([one, other])).toEqual([
      ['allow', 0],
      ['delay', 0.25],
    ]);
    expect(await answered).toBeCloseTo(0.1);
  });

  it('works normally although a listener of `state` throws', async () => {
    world = createWorld(1, { rateLimit: 10, burstLimit: 100, onStoreFailure: 'closed' });
    await world.check(first());
    const states: string[] = [];
    first().on('state', ({ state }) => {
      states.push(state);
      throw new Error(state);
    });
    const surfaced = await uncaught(async () => {
      await world.loseData();
      expect((await first().checkAsync('q'))[0]).toBe('delay');
      await world.untilUp();
    });
    expect(surfaced.map(({ message }) => message)).toEqual(['down', 'up']);
    expect(states).toEqual(['down', 'up']);
    await world.time.run(1);
    expect(await world.check(first())).toBe(true);
  });

  it('throws if there is no memory for a new peer, and keeps nothing of it', async () => {
    world = createWorld(1, { rateLimit: 10, burstLimit: 100 });
    // The first check keeps nothing.
    await world.check(first());
    await world.time.run(1);
    const { set } = Map.prototype;
    const failing = vi.spyOn(Map.prototype, 'set').mockImplementation(function (
      this: Map<unknown, unknown>,
      ...entry
    ) {
      if (entry[0] === 'p') throw new RangeError('Map maximum size exceeded');
      return set.apply(this, entry);
    });
    const rejected = first().checkAsync('p');
    expect(() => first().check('p')).toThrow('memory');
    await expect(rejected).rejects.toMatchObject({ code: 'ERR_LIMITER_MEMORY' });
    failing.mockRestore();
    await world.time.run(1);
    expect(first().getStats()).toMatchObject({ trackedPeers: 0, fallbackVerdicts: 0 });
    expect(await world.check(first())).toBe(true);
  });

  describe('with a store that was restarted unnoticed', () => {
    it('keeps the bound at a node whose first call comes after the restart', async () => {
      const limit = { rateLimit: 1, burstLimit: 50, onStoreFailure: 'closed' as const };
      world = createWorld(2, limit);
      const [one, other] = world.nodes as [SharedRateLimiter, SharedRateLimiter];
      await world.time.run(1);
      await world.spendAll(one);
      // So fast that no heartbeat has noticed it.
      world.store.restart();
      await world.spendAll(other);
      await world.spendAll(one);
      expect(world.excess(limit)).toBeLessThanOrEqual(ROUNDING);
    });
  });

  describe('with violations', () => {
    it('counts each once if the reply to their report is lost', async () => {
      world = createWorld(1, { rateLimit: 4, burstLimit: 1, disconnectThreshold: 12 });
      for (let n = 0; n < 6; n += 1) await world.check(first());
      await world.time.run(0.3);
      world.losesReplies = true;
      await world.check(first(), 1);
      world.losesReplies = false;
      await world.check(first(), 1);
      const count = first().getViolationCount('p');
      await world.time.run(0.01);
      // Five, and one because the token of the lost reply is missing.
      expect(await count).toBe(6);
    });
  });

  describe('with the policy share', () => {
    const limit = {
      rateLimit: 20,
      burstLimit: 80,
      leaseSeconds: 5,
      onStoreFailure: 'share' as const,
    };
    beforeEach(async () => {
      world = createWorld(4, limit);
      await world.time.run(4);
    });

    /** Counts the messages that all nodes admit in an outage of `seconds`. */
    async function admittedInOutage(nodes: readonly SharedRateLimiter[], seconds: number) {
      world.isAway = true;
      for (const node of nodes) while (await world.check(node)) {}
      const before = world.admissions.length;
      for (let n = 0; n < seconds * 10; n += 1) {
        await world.time.run(0.1);
        for (const node of nodes) await world.check(node);
      }
      return world.admissions.length - before;
    }

    it('divides the rate by all nodes, although the first node sees only itself after a restart', async () => {
      await world.loseData();
      // Until the first heartbeat is answered.
      while (world.nodes.every((node) => node.getStats().store.state === 'down')) {
        await world.time.run(0.001);
      }
      expect(await admittedInOutage(world.nodes, 10)).toBeLessThanOrEqual(20 * 10 + 4);
    });

    it('grants the rate divided by the option nodes if it starts during an outage', async () => {
      world.isAway = true;
      const alone = world.start();
      // Ten checks per second.
      expect(await admittedInOutage([alone], 5)).toBeGreaterThan(45);
      const fleet = createWorld(0, { ...limit, nodes: 4 });
      fleet.isAway = true;
      const one = fleet.start();
      await fleet.time.run(1);
      let admitted = 0;
      for (let n = 0; n < 50; n += 1) {
        await fleet.time.run(0.1);
        if (await fleet.check(one)) admitted += 1;
      }
      expect(admitted).toBeGreaterThan(20);
      expect(admitted).toBeLessThanOrEqual(27);
    });
  });
});
