// What breaks the bound of mode `leased` only at its worst moment, at that moment: in virtual time, with
// the package's own nodes, of either engine, and the store's twin.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { EngineName } from '../../lib/index.js';
import type { SharedRateLimiter } from '../../lib/redis/index.js';
import { ENGINES } from '../support/limiters.js';
import { uncaught } from '../support/uncaught.js';
import { ROUNDING, World, type WorldOptions } from './support/world.js';

let world: World;
let engine: EngineName;
const worldOf = (nodes: number, options: WorldOptions) => new World(nodes, { engine, ...options });
const first = () => world.nodes[0] as SharedRateLimiter;
afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

describe.each(ENGINES)('on the %s engine:', (name) => {
  beforeEach(() => {
    engine = name;
  });

  describe('a lease', () => {
    it('that covers a check costs it one look at the engine and one at the clock', async () => {
      world = worldOf(1, { rateLimit: 10, burstLimit: 100 });
      await world.check(first());
      world.clockReads = 0;
      const get = vi.spyOn(Map.prototype, 'get');
      const verdict = first().check('p');
      const looks = get.mock.calls.length;
      get.mockRestore();
      expect(verdict).toEqual(['allow', 0]);
      expect([looks, world.clockReads]).toEqual([name === 'js' ? 1 : 0, 1]);
    });

    // An attacker's must not fill the process; and V8 hashes all of one great length alike.
    it('of a long key is kept under a digest', async () => {
      world = worldOf(1, { rateLimit: 10, burstLimit: 100 });
      const key = 'x'.repeat(65_536);
      const set = vi.spyOn(Map.prototype, 'set');
      const verdict = first().checkAsync(key);
      await world.time.run(0.001);
      const longest = Math.max(...set.mock.calls.map(([id]) => String(id).length));
      set.mockRestore();
      expect(await verdict).toEqual(['allow', 0]);
      expect(longest).toBeLessThan(200);
      expect(first().check(key)).toEqual(['allow', 0]);
      expect(first().check(`${key}x`)[0]).toBe('delay');
    });

    it('of which three quarters are spent asks for the next, and covers meanwhile', async () => {
      world = worldOf(1, { rateLimit: 10, burstLimit: 100 });
      await world.check(first());
      const before = first().getStats();
      await world.spendLease(first());
      expect(await world.check(first(), 2, true)).toBe(true);
      const { leasedTokens, store } = first().getStats();
      expect(store.calls).toBe(before.store.calls + 1);
      expect(leasedTokens).toBeGreaterThan(before.leasedTokens);
    });

    it('that is over at the node, not yet in the store, does not go on as part of the next', async () => {
      world = worldOf(1, { rateLimit: 10, burstLimit: 100 });
      for (let n = 0; n < 40; n += 1) await world.check(first());
      expect(world.leased()).toBeGreaterThan(10);
      await world.time.run(20 * 0.995);
      expect(world.leased()).toBe(0);
      expect(world.stored()).toBeGreaterThan(10);
      await world.check(first());
      expect(world.leased()).toBeLessThanOrEqual(world.stored());
    });

    it('spent at its end leaves a bucket that is not full when its key would have gone', async () => {
      const limit = { rateLimit: 5, burstLimit: 100 };
      world = worldOf(6, limit);
      for (const node of world.nodes) for (let n = 0; n < 4; n += 1) await world.check(node);
      await world.time.run(20 * 0.985);
      for (const node of world.nodes) await world.spendLease(node);
      expect(world.admissions.length).toBeGreaterThan(40);
      await world.time.run(1.5);
      await world.spendAll(first());
      expect(world.over(limit)).toBeLessThanOrEqual(ROUNDING);
    });

    it('that the store has lost is spent at its end, and the rest of the burst comes no faster', async () => {
      const limit = { rateLimit: 6, burstLimit: 100, onStoreFailure: 'closed' as const };
      world = worldOf(14, limit);
      for (const node of world.nodes) for (let n = 0; n < 4; n += 1) await world.check(node);
      const leasedAt = world.time.now;
      await world.lose();
      await world.areUp();
      const heldUntil = world.time.now + 20;
      await world.time.run(leasedAt + 19.7 - world.time.now);
      for (const node of world.nodes) await world.spendLease(node);
      await world.time.run(heldUntil + 0.1 - world.time.now);
      await world.spendAll(first());
      expect(world.over(limit)).toBeLessThanOrEqual(ROUNDING);
      // All of it comes in the end.
      await world.time.run(100 / 6 + 20);
      const before = world.admissions.length;
      await world.spendAll(first());
      expect(world.admissions.length - before).toBeGreaterThanOrEqual(50);
    });

    it('of a dear check is short, so that losing it does no harm', async () => {
      const limit = { rateLimit: 50, burstLimit: 100, onStoreFailure: 'closed' as const };
      world = worldOf(2, limit);
      const [one, other] = world.nodes as [SharedRateLimiter, SharedRateLimiter];
      await world.check(other);
      await other.removePeer('p');
      expect(await world.check(one, 90, true)).toBe(false);
      expect(world.leased()).toBe(90);
      await world.lose();
      await world.time.run(4);
      await world.check(one, 90, true);
      await world.spendAll(other);
      expect(world.over(limit)).toBeLessThanOrEqual(ROUNDING);
    });

    it('of a dear check lasts until it is made again as it was told', async () => {
      world = worldOf(1, { rateLimit: 50, burstLimit: 100 });
      await world.time.run(0.1);
      const [action, seconds] = first().check('p', 90);
      expect([action, seconds]).toEqual(['delay', 0.1]);
      await world.time.run(seconds);
      expect(first().check('p', 90)).toEqual(['allow', 0]);
    });

    it.each([
      ['all of the burst', 100, {}],
      ['one token', 1, { leaseSeconds: 0.05 }],
    ])('of %s outlives any answer within the deadline', async (_, cost, options) => {
      world = worldOf(1, { rateLimit: 0.001, burstLimit: 100, deadlineSeconds: 5, ...options });
      void first().checkAsync('loads the script');
      await world.time.run(1);
      world.tripSeconds = 4.9;
      const verdict = first().checkAsync('p', cost);
      await world.time.run(5);
      expect(await verdict).toEqual(['allow', 0]);
      // By `check`, its DELAY is how long the answer may take.
      expect(first().check('q', cost)).toEqual(['delay', 5]);
      await world.time.run(5);
      expect(first().check('q', cost)).toEqual(['allow', 0]);
    });

    it('from before a loss does not go on as part of one whose grant was lost', async () => {
      world = worldOf(1, { rateLimit: 10, burstLimit: 100, onStoreFailure: 'closed' });
      for (let n = 0; n < 40; n += 1) await world.check(first());
      await world.lose();
      await world.areUp();
      // One or two tokens have come; they are leased ahead of use, and the node does not hear of it.
      await world.time.run(0.7);
      const { store } = first().getStats();
      world.losesReplies = true;
      while (first().getStats().store.calls === store.calls) await world.check(first(), 1, true);
      world.losesReplies = false;
      const held = world.leased();
      expect(held).toBeGreaterThan(world.stored());
      expect(world.stored()).toBeGreaterThan(0);
      await world.time.run(2);
      expect(await world.check(first(), held + 1)).toBe(true);
      expect(world.leased() + held + 1).toBeLessThanOrEqual(world.stored());
    });

    it.each([1, 5, 9])(
      'lost twice within its time, %s s apart, is not given again',
      async (apart) => {
        const limit = { rateLimit: 50, burstLimit: 100, onStoreFailure: 'closed' as const };
        world = worldOf(16, { ...limit, leaseSeconds: 30 });
        const some = world.nodes.slice(0, 8);
        const others = world.nodes.slice(8);
        for (const node of some) for (let n = 0; n < 2; n += 1) await world.check(node);
        await world.lose();
        await world.areUp();
        await world.time.run(apart);
        for (const node of others) for (let n = 0; n < 2; n += 1) await world.check(node);
        await world.lose();
        await world.areUp();
        await world.time.run(2);
        for (const node of world.nodes) await world.spendLease(node);
        for (const node of world.nodes) await world.spendAll(node);
        expect(world.over(limit)).toBeLessThanOrEqual(ROUNDING);
      },
    );
  });

  describe('closing', () => {
    /** What became of it after so many seconds. */
    async function within(closing: Promise<void>, seconds: number): Promise<string> {
      let became = 'not done';
      closing.then(() => {
        became = `done, ${world.stored()} on lease`;
      });
      await world.time.run(seconds);
      return became;
    }
    beforeEach(async () => {
      world = worldOf(1, { rateLimit: 10, burstLimit: 100 });
      await world.time.run(1);
      world.tripSeconds = 0.02;
    });

    it('gives back what is being asked for, also of who has left meanwhile; closing twice is fine', async () => {
      first().check('p');
      first().check('q');
      first().removePeer('q');
      // The store has granted it; the answer is under way.
      await world.time.run(0.035);
      expect(world.stored()).toBeGreaterThan(10);
      const closings = [first().close(), first().close()];
      expect(await Promise.all(closings.map((one) => within(one, 0.3)))).toEqual([
        'done, 0 on lease',
        'done, 0 on lease',
      ]);
    });

    it('does not wait for checks that come after all', async () => {
      let peers = 0;
      const check = () => {
        first().check(`peer-${peers}`);
        peers += 1;
        if (peers < 100) world.time.after(0.005, check);
      };
      check();
      await world.time.run(0.1);
      expect(await within(first().close(), 0.2)).toMatch(/^done/);
      expect(peers).toBeLessThan(100);
    });

    it('comes to an end where a listener has thrown', async () => {
      first().on('failure', () => {
        throw new Error('of the listener');
      });
      vi.spyOn(world.twin, 'eval').mockImplementation(() => {
        throw new Error('WRONGTYPE a key of somebody else');
      });
      const verdict = first().checkAsync('p');
      let became = '';
      const surfaced = await uncaught(async () => {
        became = await within(first().close(), 0.3);
      });
      expect(surfaced.map(({ message }) => message)).toEqual(['of the listener']);
      expect(became).toMatch(/^done/);
      expect((await verdict)[0]).toBe('delay');
    });

    it('gives back what was asked for again, in the middle of that', async () => {
      // The second and third wait, and are asked for when the first is answered.
      const checks = [1, 2, 3].map((cost) => first().checkAsync('p', cost * 10));
      first().removePeer('p');
      expect(await within(first().close(), 0.3)).toBe('done, 0 on lease');
      expect((await Promise.all(checks)).map(([action]) => action)).toEqual(Array(3).fill('allow'));
    });
  });

  it('a check that has to be asked for twice waits no longer than the deadline', async () => {
    world = worldOf(1, { rateLimit: 10, burstLimit: 100 });
    await world.check(first());
    first().removePeer('p');
    await world.time.run(1);
    world.tripSeconds = 0.07;
    const askedAt = world.time.now;
    const one = first().checkAsync('p');
    const other = first().checkAsync('p', 60);
    const answered = other.then(() => world.time.now - askedAt);
    await world.time.run(0.2);
    expect(await Promise.all([one, other])).toEqual([
      ['allow', 0],
      ['delay', 0.25],
    ]);
    expect(await answered).toBeCloseTo(0.1);
  });

  it('a listener of states that throws holds nothing up', async () => {
    world = worldOf(1, { rateLimit: 10, burstLimit: 100, onStoreFailure: 'closed' });
    await world.check(first());
    const states: string[] = [];
    first().on('state', ({ state }) => {
      states.push(state);
      throw new Error(state);
    });
    const surfaced = await uncaught(async () => {
      await world.lose();
      expect((await first().checkAsync('q'))[0]).toBe('delay');
      await world.areUp();
    });
    expect(surfaced.map(({ message }) => message)).toEqual(['down', 'up']);
    expect(states).toEqual(['down', 'up']);
    await world.time.run(1);
    expect(await world.check(first())).toBe(true);
  });

  it('a newcomer without memory is an error at once, and nothing of it remains', async () => {
    world = worldOf(1, { rateLimit: 10, burstLimit: 100 });
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

  describe('a store that is back without what it knew', () => {
    it('is noticed by a node whose first call that is', async () => {
      const limit = { rateLimit: 1, burstLimit: 50, onStoreFailure: 'closed' as const };
      world = worldOf(2, limit);
      const [one, other] = world.nodes as [SharedRateLimiter, SharedRateLimiter];
      await world.time.run(1);
      await world.spendAll(one);
      // So fast that nobody has noticed by himself.
      world.twin.restart();
      await world.spendAll(other);
      await world.spendAll(one);
      expect(world.over(limit)).toBeLessThanOrEqual(ROUNDING);
    });
  });

  describe('violations', () => {
    it('are counted once where the reply is lost that said so', async () => {
      world = worldOf(1, { rateLimit: 4, burstLimit: 1, disconnectThreshold: 12 });
      for (let n = 0; n < 6; n += 1) await world.check(first());
      await world.time.run(0.3);
      world.losesReplies = true;
      await world.check(first(), 1);
      world.losesReplies = false;
      await world.check(first(), 1);
      const count = first().getViolationCount('p');
      await world.time.run(0.01);
      // Five, and one for the token that was lost with the reply.
      expect(await count).toBe(6);
    });
  });

  describe('a share', () => {
    const limit = {
      rateLimit: 20,
      burstLimit: 80,
      leaseSeconds: 5,
      onStoreFailure: 'share' as const,
    };
    beforeEach(async () => {
      world = worldOf(4, limit);
      await world.time.run(4);
    });

    /** Messages that all nodes admit while the store is away for `seconds`. */
    async function admittedAway(nodes: readonly SharedRateLimiter[], seconds: number) {
      world.isAway = true;
      for (const node of nodes) while (await world.check(node)) {}
      const before = world.admissions.length;
      for (let n = 0; n < seconds * 10; n += 1) {
        await world.time.run(0.1);
        for (const node of nodes) await world.check(node);
      }
      return world.admissions.length - before;
    }

    it('is that of all nodes, though the first to come back sees itself alone', async () => {
      await world.lose();
      // As long as it takes one of them to be heard.
      while (world.nodes.every((node) => node.getStats().store.state === 'down')) {
        await world.time.run(0.001);
      }
      expect(await admittedAway(world.nodes, 10)).toBeLessThanOrEqual(20 * 10 + 4);
    });

    it('of a node that starts meanwhile is what it is told, or all', async () => {
      world.isAway = true;
      const all = world.start();
      // Asked ten times a second.
      expect(await admittedAway([all], 5)).toBeGreaterThan(45);
      const told = worldOf(0, { ...limit, nodes: 4 });
      told.isAway = true;
      const one = told.start();
      await told.time.run(1);
      let admitted = 0;
      for (let n = 0; n < 50; n += 1) {
        await told.time.run(0.1);
        if (await told.check(one)) admitted += 1;
      }
      expect(admitted).toBeGreaterThan(20);
      expect(admitted).toBeLessThanOrEqual(27);
    });
  });
});
