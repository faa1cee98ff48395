// A limit that is changed while nodes run: who follows and when, what stays, and the bound; in virtual time, with a
// simulated store.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { EngineName } from '../../lib/index.js';
import { SharedRateLimiter } from '../../lib/redis/index.js';
import { ENGINES } from '../support/limiters.js';
import { ROUNDING, World, type WorldOptions } from './support/world.js';

const LIMIT = { rateLimit: 10, burstLimit: 100 };
let world: World;
afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

async function started(nodes: number, options: Partial<WorldOptions> = {}) {
  world = new World(nodes, { ...LIMIT, ...options });
  await world.time.run(1);
  return world.nodes as [SharedRateLimiter, SharedRateLimiter, SharedRateLimiter];
}

const limitOf = ({ rateLimit, burstLimit, disconnectThreshold }: SharedRateLimiter) => {
  return [rateLimit, burstLimit, disconnectThreshold];
};

/** Makes the change and waits until the store has it. */
async function update(...[node, change]: Parameters<typeof updated>) {
  const done = updated(node, change);
  await world.time.run(0.01);
  await done;
}
const updated = (node: SharedRateLimiter, change: Parameters<SharedRateLimiter['update']>[0]) =>
  node.update(change);

describe('SharedRateLimiter.update', () => {
  it.each(['leased', 'strict'] as const)(
    'changes the limit of all nodes within a second (%s)',
    async (mode) => {
      const [one, two, three] = await started(3, { mode });
      const events: unknown[] = [];
      two.on('limit', (limit) => events.push(limit));
      await update(one, { burstLimit: 40, disconnectThreshold: 7 });
      expect(limitOf(one)).toEqual([10, 40, 7]);
      await world.time.run(1);
      expect([two, three].map(limitOf)).toEqual(Array(2).fill([10, 40, 7]));
      expect(events).toEqual([{ rateLimit: 10, burstLimit: 40, disconnectThreshold: 7 }]);
      expect(await world.check(two, 41)).toBe(false);
      expect(await world.check(two, 40)).toBe(true);
    },
  );

  it('keeps buckets and violations', async () => {
    const [one, two] = await started(2, { mode: 'strict' });
    for (let n = 0; n < 100; n += 1) await world.check(one);
    expect(await world.check(one, 50)).toBe(false);
    await update(one, { burstLimit: 200 });
    await world.time.run(1);
    expect(await world.check(two, 30)).toBe(false);
    const violations = two.getViolationCount('p');
    await world.time.run(0.01);
    expect(await violations).toBe(2);
  });

  it('is adopted by nodes that start later with a former or the current limit, and by no other', async () => {
    const [one] = await started(1);
    await update(one, { rateLimit: 20 });
    await update(one, { rateLimit: 30 });
    const late = [10, 20, 30, 40].map((rateLimit) => world.start({ rateLimit }));
    // The first look precedes all checks.
    await Promise.resolve();
    await world.time.run(0.001);
    expect(late.map((node) => node.rateLimit)).toEqual([30, 30, 30, 40]);
    await update(one, { rateLimit: 50 });
    await world.time.run(1);
    expect(late.map((node) => node.rateLimit)).toEqual([50, 50, 50, 50]);
  });

  it('reaches a node that runs with a limit of its own', async () => {
    const [one] = await started(1);
    const other = world.start({ rateLimit: 77 });
    await world.time.run(1);
    await update(one, { rateLimit: 20 });
    await world.time.run(1);
    expect(other.rateLimit).toBe(20);
  });

  it('is written again by a node if the store has lost it, and not replaced by an older one', async () => {
    const [one, two] = await started(2);
    await update(one, { rateLimit: 20 });
    const back = world.store.snapshot();
    const old = world.store.version.text;
    await update(two, { rateLimit: 30 });
    await world.time.run(1);
    const current = world.store.version.text;
    world.store.flush();
    await world.time.run(1);
    expect(world.store.version.text).toBe(current);
    back();
    world.store.version.text = old;
    await world.time.run(1);
    expect(world.store.version.text).toBe(current);
    expect([one, two].map(({ rateLimit }) => rateLimit)).toEqual([30, 30]);
  });

  it('is not undone by nodes that remember the limit before a loss of data', async () => {
    const [one, two] = await started(2);
    for (const rateLimit of [20, 30, 40]) await update(one, { rateLimit });
    await world.time.run(1);
    world.store.flush();
    await update(two, { rateLimit: 50 });
    await world.time.run(1);
    expect([one, two].map(({ rateLimit }) => rateLimit)).toEqual([50, 50]);
    world.store.flush();
    // This one knows no limit of before.
    const late = world.start();
    await update(late, { rateLimit: 60 });
    await world.time.run(1);
    expect([one, two, late].map(({ rateLimit }) => rateLimit)).toEqual([60, 60, 60]);
  });

  it('leaves what it does not name as other nodes have just set it', async () => {
    const [one, two] = await started(2);
    await Promise.all([
      update(one, { rateLimit: 20, disconnectThreshold: 5 }),
      update(two, { burstLimit: 50 }),
      update(one, { disconnectThreshold: null }),
    ]);
    await world.time.run(1);
    expect([one, two].map(limitOf)).toEqual(Array(2).fill([20, 50, null]));
  });

  it('writes nothing if it names nothing', async () => {
    const [one] = await started(1);
    await one.update({});
    expect(world.store.version.text).toBe('');
    await update(one, { rateLimit: 20 });
    const before = world.store.version.text;
    await one.update({ burstLimit: undefined });
    expect(world.store.version.text).toBe(before);
  });

  it('reaches a node although the reply to one of its looks never comes', async () => {
    const [one, two] = await started(2);
    // From 3.6 to 3.8 seconds after the start: there is a look every 0.75 seconds, and no heartbeat.
    await world.time.run(2.6);
    world.isSilent = true;
    await world.time.run(0.2);
    world.isSilent = false;
    await update(one, { rateLimit: 20 });
    await world.time.run(1);
    expect(two.rateLimit).toBe(20);
    expect(two.getStats().store.failures).toBe(0);
  });

  it('rejects what is no limit, and where there is no store or no reply, and changes nothing', async () => {
    const [one] = await started(1);
    const wrong = [{ rateLimit: 0 }, { burstLimit: 0.5 }, { leaseSeconds: 5 }, null];
    for (const change of wrong) {
      await expect(one.update(change as never)).rejects.toMatchObject({
        code: 'ERR_LIMITER_OPTION',
      });
    }
    const local = new SharedRateLimiter({ mode: 'local' });
    await expect(local.update({ rateLimit: 1 })).rejects.toMatchObject({
      code: 'ERR_LIMITER_OPTION',
    });
    world.isAway = true;
    const away = expect(one.update({ rateLimit: 1 })).rejects.toMatchObject({
      code: 'ERR_LIMITER_STORE',
    });
    await world.time.run(0.2);
    await away;
    world.isAway = false;
    world.isSilent = true;
    const silent = expect(one.update({ rateLimit: 1 })).rejects.toThrow(/deadline/);
    await world.time.run(0.2);
    await silent;
    expect(limitOf(one)).toEqual([10, 100, null]);
    world.endSilence();
    void one.close();
    await world.time.run(1);
    await expect(one.update({ rateLimit: 1 })).rejects.toMatchObject({ code: 'ERR_LIMITER_STORE' });
  });
});

describe.each(ENGINES)('A lower burst, with the %s engine,', (engine: EngineName) => {
  beforeEach(async () => {
    await started(3, { engine });
  });

  it('holds from the moment in which all nodes have followed', async () => {
    for (const node of world.nodes) for (let n = 0; n < 2; n += 1) await world.check(node);
    expect(world.leasedAtNodes()).toBeGreaterThan(20);
    await update(world.nodes[0] as SharedRateLimiter, { burstLimit: 20, rateLimit: 0.1 });
    await world.time.run(1);
    expect(world.leasedInStore()).toBeGreaterThan(20);
    expect(world.leasedAtNodes()).toBeLessThan(20);
    world.admissions.length = 0;
    for (const node of world.nodes) await world.spendAll(node);
    expect(world.admissions.length).toBeGreaterThan(0);
    expect(world.excess({ rateLimit: 0.1, burstLimit: 20 })).toBeLessThanOrEqual(ROUNDING);
  });

  it('shrinks a lease that was being requested', async () => {
    const [, two] = world.nodes as [SharedRateLimiter, SharedRateLimiter];
    await world.lease(two);
    // The node's request is under way, and the node learns of the change before its reply.
    world.roundTripSeconds = 0.09;
    two.check('q', 40);
    await world.time.run(0.08);
    world.roundTripSeconds = 0;
    await update(two, { burstLimit: 10 });
    await world.time.run(0.05);
    expect(two.getStats().leasedTokens).toBeLessThanOrEqual(10);
    expect(two.getStats().leasedTokens).toBeGreaterThan(0);
  });

  it('ends refusals, so that a higher rate admits at once what it allows', async () => {
    const [one] = world.nodes as [SharedRateLimiter];
    await world.spendAll(one);
    const [, delay] = one.check('p', 90);
    expect(delay).toBeGreaterThan(8);
    await update(one, { rateLimit: 1000 });
    await world.time.run(0.2);
    expect(await world.check(one, 90)).toBe(true);
  });
});

describe.each(ENGINES)('A lower rate, with the %s engine,', (engine: EngineName) => {
  const FAST = { rateLimit: 1000, burstLimit: 1000 };
  const SLOW = { rateLimit: 1, burstLimit: 1000 };

  /** Spends of a node's lease what a node spends without a call of the store. */
  const spendLocally = async (node: SharedRateLimiter) => {
    const tokens = Math.floor(node.getStats().leasedTokens * 0.6);
    for (let n = 0; n < tokens; n += 1) await world.check(node, 1, true);
  };

  /** Waits until the key has expired if its time to live is that of the higher rate, and spends a bucket that is full then. */
  const spendLater = async (node: SharedRateLimiter) => {
    await world.time.run(30);
    await world.spendAll(node);
  };

  it('holds from the moment in which all nodes have followed, although leases of before are spent', async () => {
    const nodes = await started(3, { engine, ...FAST });
    for (const node of nodes) for (let n = 0; n < 45; n += 1) await world.check(node, 5);
    const leased = world.leasedAtNodes();
    expect(leased).toBeGreaterThan(70);
    await update(nodes[0], { rateLimit: SLOW.rateLimit });
    await world.time.run(1);
    expect(world.leasedAtNodes()).toBe(leased);
    world.admissions.length = 0;
    for (const node of nodes) await spendLocally(node);
    await spendLater(nodes[0]);
    // The leases were not lost.
    expect(world.admissions.length).toBeGreaterThan(leased * 0.5);
    expect(world.excess(SLOW)).toBeLessThanOrEqual(ROUNDING);
  });

  it('holds although a lease was being requested', async () => {
    const [one] = await started(1, { engine, ...FAST });
    await world.lease(one);
    // The store grants it before it changes the limit.
    world.roundTripSeconds = 0.09;
    const expensive = one.checkAsync('p', 300);
    await world.time.run(0.05);
    world.roundTripSeconds = 0;
    await update(one, { rateLimit: SLOW.rateLimit });
    await world.time.run(0.05);
    expect(await expensive).toEqual(['allow', 0]);
    world.admissions.push({ at: world.time.now, cost: 300 });
    await spendLater(one);
    expect(world.excess(SLOW)).toBeLessThanOrEqual(ROUNDING);
  });

  it('does not spend a lease of before while the store is away, and does after it', async () => {
    const [one] = await started(1, { engine, ...FAST, onStoreFailure: 'closed' });
    await world.lease(one);
    await update(one, { rateLimit: SLOW.rateLimit });
    world.isAway = true;
    expect(await world.check(one)).toBe(false);
    world.isAway = false;
    await world.time.run(1);
    const before = world.leasedAtNodes();
    // More than the bucket has: the store confirms the lease, and grants nothing.
    expect(await world.check(one, 1000)).toBe(false);
    expect(world.leasedAtNodes()).toBe(before);
    const { store } = one.getStats();
    expect(await world.check(one, before, true)).toBe(true);
    expect(one.getStats().store.calls).toBe(store.calls);
  });

  it('holds in mode strict at a node that starts after the last one with the rate of before has ended', async () => {
    const [one] = await started(1, { engine, ...FAST, mode: 'strict' });
    await world.lease(one);
    void one.close();
    await world.time.run(0.1);
    world.admissions.length = 0;
    const two = world.start(SLOW);
    await world.time.run(0.1);
    // Not to a refusal, which would be kept for an hour.
    for (let n = 0; n < 195; n += 1) expect(await world.check(two, 5)).toBe(true);
    await spendLater(two);
    expect(world.excess(SLOW)).toBeLessThanOrEqual(ROUNDING);
  });

  it('holds for a lease after a node of a higher rate has used the same bucket', async () => {
    const [one] = await started(1, { engine, ...SLOW });
    for (let n = 0; n < 30; n += 1) await world.check(one, 5);
    const two = world.start({ ...FAST, mode: 'strict' });
    await world.time.run(0.1);
    expect(await world.check(two)).toBe(true);
    void two.close();
    await world.time.run(0.1);
    world.admissions.length = 0;
    await spendLocally(one);
    expect(world.admissions.length).toBeGreaterThan(32);
    await spendLater(one);
    expect(world.excess(SLOW)).toBeLessThanOrEqual(ROUNDING);
  });
});
