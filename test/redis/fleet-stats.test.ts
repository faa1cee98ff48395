// What SharedRateLimiter reports of all processes, in virtual time, with a simulated store.

import { afterEach, describe, expect, it, vi } from 'vitest';
import { SharedRateLimiter } from '../../lib/redis/index.js';
import { mergeRefused, RefusedPeers } from '../../lib/redis/limit/refused-peers.js';
import { VirtualTime } from './support/virtual-time.js';
import { World, type WorldOptions } from './support/world.js';

let world: World;
afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

async function started(nodes: number, options: Partial<WorldOptions> = {}) {
  world = new World(nodes, { rateLimit: 0.001, burstLimit: 2, mode: 'strict', ...options });
  await world.time.run(1);
  return world.nodes as [SharedRateLimiter, SharedRateLimiter, SharedRateLimiter];
}

/** Waits in virtual time. */
async function settled<T>(promise: Promise<T>): Promise<T> {
  const settling = Promise.allSettled([promise]);
  await world.time.run(0.2);
  await settling;
  return promise;
}

async function checks(node: SharedRateLimiter, key: string, count: number) {
  for (let n = 0; n < count; n += 1) await settled(node.checkAsync(key));
}

const statsOf = (node: SharedRateLimiter) => settled(node.getFleetStats());
const totalOf = ({ allow, delay, disconnect }: Record<string, number>) =>
  (allow as number) + (delay as number) + (disconnect as number);

describe('SharedRateLimiter.getFleetStats', () => {
  it.each(['leased', 'strict'] as const)(
    'adds up the verdicts and the refusals of all processes (%s)',
    async (mode) => {
      const [one, two, three] = await started(3, { mode, disconnectThreshold: 6 });
      await checks(one, 'p', 5);
      await checks(two, 'p', 4);
      await checks(two, 'q', 3);
      await world.time.run(6);
      const { nodes, verdicts, offenders, ...others } = await statsOf(three);
      expect(nodes).toBe(3);
      expect(verdicts.allow).toBe(4);
      expect(totalOf(verdicts)).toBe(12);
      expect(offenders).toEqual([
        { key: 'p', refusals: 7 },
        { key: 'q', refusals: 1 },
      ]);
      expect(others).toEqual({ fallbackVerdicts: 0, overloadVerdicts: 0 });
      await world.time.run(6);
      expect(one.getStats().fleetVerdicts).toEqual(verdicts);
    },
  );

  it('knows what a report has said whose reply was late', async () => {
    const [one] = await started(1);
    await checks(one, 'p', 3);
    world.roundTripSeconds = 0.3;
    await world.time.run(6);
    expect(one.getStats().fleetVerdicts?.allow).toBe(2);
  });

  it('includes what this process has done just now', async () => {
    const [one] = await started(1);
    await checks(one, 'p', 3);
    expect((await statsOf(one)).offenders).toEqual([{ key: 'p', refusals: 1 }]);
  });

  it('counts a report once whose reply was lost, or that was overtaken', async () => {
    const [one, two] = await started(2);
    await checks(one, 'p', 3);
    world.losesReplies = true;
    await world.time.run(11);
    world.losesReplies = false;
    await checks(one, 'p', 3);
    await world.time.run(6);
    expect(totalOf((await statsOf(two)).verdicts)).toBe(6);
  });

  it('keeps the verdicts of a process that has ended, its last ones too, and forgets its offenders', async () => {
    const [one, two] = await started(2);
    await checks(one, 'p', 4);
    const closed = one.close();
    await world.time.run(1);
    await closed;
    expect((await statsOf(two)).offenders).toEqual([{ key: 'p', refusals: 2 }]);
    await world.time.run(61);
    expect(await statsOf(two)).toMatchObject({ verdicts: { allow: 2, delay: 2 }, offenders: [] });
  });

  it('counts from 0 after a loss of data, without what was counted before', async () => {
    const [one, two] = await started(2);
    await checks(one, 'p', 4);
    await world.time.run(6);
    world.store.fleet = { totals: [], reports: new Map() };
    await checks(one, 'p', 2);
    await world.time.run(6);
    expect(totalOf((await statsOf(two)).verdicts)).toBe(2);
  });

  it('forgets refusals after ten minutes', async () => {
    const [one] = await started(1);
    await checks(one, 'p', 3);
    await world.time.run(299);
    expect((await statsOf(one)).offenders).toHaveLength(1);
    await world.time.run(302);
    expect((await statsOf(one)).offenders).toEqual([]);
  });

  it('makes one call of the store in five seconds, whatever the number of checks', async () => {
    const [one] = await started(1, { mode: 'leased' });
    const calls = vi.spyOn(world.store, 'eval');
    for (let n = 0; n < 500; n += 1) await world.check(one);
    calls.mockClear();
    await world.time.run(50);
    const reports = calls.mock.calls.filter(([text]) => text.includes('HVALS'));
    expect(reports).toHaveLength(10);
    expect(Math.max(...reports.map(([, , args]) => args.join('').length))).toBeLessThan(2000);
  });

  it('does not count a check that is delayed only to ask the store as a refusal of the peer', async () => {
    const [one] = await started(1, { mode: 'leased' });
    expect(one.check('p')[0]).toBe('delay');
    await world.time.run(0.1);
    expect(await statsOf(one)).toMatchObject({ verdicts: { delay: 1 }, offenders: [] });
  });

  it('rejects if the store does not answer, and after close()', async () => {
    const [one] = await started(1);
    world.isSilent = true;
    const rejection = expect(one.getFleetStats()).rejects.toMatchObject({
      code: 'ERR_LIMITER_STORE',
    });
    await world.time.run(1);
    await rejection;
    world.endSilence();
    await settled(one.close());
    await expect(one.getFleetStats()).rejects.toMatchObject({ code: 'ERR_LIMITER_STORE' });
  });

  it('ends close() within its deadlines while the store is silent', async () => {
    const [one] = await started(1);
    await checks(one, 'p', 1);
    world.isSilent = true;
    let isClosed = false;
    void one.close().then(() => {
      isClosed = true;
    });
    await world.time.run(1);
    expect(isClosed).toBe(true);
    world.endSilence();
  });

  it('returns what this process has done in mode local', async () => {
    const local = new SharedRateLimiter({ mode: 'local', rateLimit: 0.001, burstLimit: 1 });
    const long = 'x'.repeat(200);
    for (const key of ['p', 'p', 'p', long, long]) local.check(key);
    const { nodes, verdicts, offenders } = await local.getFleetStats();
    expect([nodes, verdicts]).toEqual([1, { allow: 2, delay: 3, disconnect: 0 }]);
    expect(offenders[0]).toEqual({ key: 'p', refusals: 2 });
    expect(offenders[1]?.key).toMatch(/^#[0-9a-f]{128}$/);
    expect(local.getStats().fleetVerdicts).toBe(null);
  });
});

describe('RefusedPeers', () => {
  it('never counts above the truth, and keeps who is refused most among any number of others', () => {
    new VirtualTime().install();
    const peers = new RefusedPeers();
    for (let n = 0; n < 10_000; n += 1) peers.add(n % 20 === 0 ? 'worst' : `other ${n}`);
    const [first, second] = peers.top(2);
    expect(first?.[0]).toBe('worst');
    expect(first?.[1]).toBeGreaterThan(400);
    expect(first?.[1]).toBeLessThanOrEqual(500);
    expect(second?.[1]).toBe(1);
    expect(peers.top(1000)).toHaveLength(100);
  });
});

describe('mergeRefused', () => {
  it('adds up and sorts, by the name among equals', () => {
    const lists = [
      [
        ['b', 1],
        ['a', 2],
      ] as const,
      [
        ['c', 1],
        ['b', 4],
      ] as const,
    ];
    expect(mergeRefused([...lists, [['a', 3]]], 2)).toEqual([
      ['a', 5],
      ['b', 5],
    ]);
  });
});
