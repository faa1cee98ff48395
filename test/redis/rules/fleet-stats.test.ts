// SharedRuleLimiter.getFleetStats in virtual time: what all processes have done, and its metrics.

import { afterEach, describe, expect, it, vi } from 'vitest';
import { LIMITS } from '../../../lib/metrics/shared.js';
import type { RuleFleetStats, SharedRuleLimiter } from '../../../lib/redis/index.js';
import { type RuleOptions, RuleWorld } from '../support/rule-world.js';

let world: RuleWorld;
afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const OPTIONS: RuleOptions = {
  scopes: { account: {}, address: { kind: 'address' }, server: { single: true } },
  rules: {
    messages: { scope: 'account', rateLimit: 0.001, burstLimit: 2 },
    connects: { scope: 'address', action: 'connect', rateLimit: 0.001, burstLimit: 2 },
    everybody: { scope: 'server', action: 'all', rateLimit: 0.001, burstLimit: 1 },
  },
  bans: { address: { violations: 1.5, withinSeconds: 600, seconds: 100 } },
  deny: { account: ['bad'] },
};
const PEER = { account: 'a', address: '192.0.2.7' };

async function started(nodes: number, options: Partial<RuleOptions> = {}) {
  world = new RuleWorld(nodes, { mode: 'strict', ...OPTIONS, ...options });
  await world.settle();
  return world.nodes as [SharedRuleLimiter, SharedRuleLimiter];
}

async function statsOf(node: SharedRuleLimiter): Promise<RuleFleetStats> {
  const stats = node.getFleetStats();
  stats.catch(() => {});
  await world.settle();
  return stats;
}

async function checks(
  node: SharedRuleLimiter,
  times: number,
  ...check: Parameters<SharedRuleLimiter['checkAsync']>
): Promise<void> {
  for (let n = 0; n < times; n += 1) await world.check(node, ...check);
}

describe('SharedRuleLimiter.getFleetStats', () => {
  it.each(['leased', 'strict'] as const)(
    'adds up outcomes and bans of all processes, and names the keys refused most by scope (%s)',
    async (mode) => {
      const [one, two] = await started(2, { mode });
      await checks(one, 5, { account: 'a' });
      await checks(one, 1, { account: 'bad' });
      await checks(two, 2, { account: 'b' });
      await checks(two, 3, { account: 'b' });
      await checks(two, 6, { address: '192.0.2.7' }, 1, 'connect');
      await checks(two, 2, {}, 1, 'all');
      await world.time.run(6);
      const { outcomes, ...stats } = await statsOf(one);
      expect(outcomes).toEqual({ allow: 7, delay: 8, banned: 3, denied: 1 });
      expect(stats).toEqual({
        nodes: 2,
        bansBegun: 1,
        bans: { account: 0, address: 1 },
        fallbackVerdicts: 0,
        overloadVerdicts: 0,
        offenders: [
          { scope: 'address', key: '192.0.2.7', refusals: 4 },
          { scope: 'account', key: 'a', refusals: 3 },
          { scope: 'account', key: 'b', refusals: 3 },
          { scope: 'account', key: 'bad', refusals: 1 },
        ],
      });
    },
  );

  it('keeps what a process has done that has closed, and counts failure policies apart', async () => {
    const [one, two] = await started(2, { onStoreFailure: 'closed' });
    await checks(one, 3, PEER);
    world.isAway = true;
    await checks(one, 4, PEER);
    world.isAway = false;
    await world.time.run(3);
    const closed = one.close();
    await world.time.run(1);
    await closed;
    const { outcomes, fallbackVerdicts } = await statsOf(two);
    expect([outcomes.allow, outcomes.delay, fallbackVerdicts]).toEqual([2, 1, 4]);
    await expect(one.getFleetStats()).rejects.toThrow('SharedRuleLimiter is closed');
  });

  it('rejects if the store does not answer', async () => {
    const [one] = await started(1);
    world.isAway = true;
    await expect(statsOf(one)).rejects.toMatchObject({ code: 'ERR_LIMITER_STORE' });
  });

  it('has metrics of the last report, which need no call', async () => {
    const [one, two] = await started(2);
    expect(one.getStats().fleet).toBe(null);
    await checks(two, 5, { address: '192.0.2.7' }, 1, 'connect');
    await world.time.run(11);
    const metric = (name: string) =>
      LIMITS.counters.find((counter) => counter.name === name)?.values(one.getStats());
    expect(metric('fleet_checks_total')).toEqual([
      [{ verdict: 'allow' }, 2],
      [{ verdict: 'delay' }, 1],
      [{ verdict: 'banned' }, 2],
      [{ verdict: 'denied' }, 0],
    ]);
    expect(metric('fleet_bans_begun_total')).toEqual([[{}, 1]]);
    expect(metric('shared_checks_total')).toContainEqual([{ verdict: 'allow' }, 0]);
    expect(metric('shared_evictions_total')).toEqual([]);
  });
});
