// SharedRuleLimiter and time: a clock that fails, and a process that is stopped in the middle of a check.

import { afterEach, describe, expect, it, vi } from 'vitest';
import type { SharedRuleLimiter } from '../../../lib/redis/index.js';
import type { RuleVerdict } from '../../../lib/rules/types.js';
import { type RuleOptions, RuleWorld } from '../support/rule-world.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

/** The verdicts of a check, as they come. */
function verdictsOf(check: Promise<RuleVerdict>): RuleVerdict[] {
  const verdicts: RuleVerdict[] = [];
  void check.then((verdict) => verdicts.push(verdict));
  return verdicts;
}

const PUNISHED: RuleOptions = {
  scopes: { connection: {} },
  rules: { messages: { scope: 'connection', rateLimit: 0.001, burstLimit: 2 } },
  bans: { connection: { violations: 10, withinSeconds: 60, seconds: 60 } },
};

describe.each(['leased', 'strict'] as const)('SharedRuleLimiter in mode %s', (mode) => {
  it('answers a check whose reply arrives while the clock fails, and counts its violation', async () => {
    const world = new RuleWorld(0, { ...PUNISHED, mode });
    let fails = false;
    const clock = () => {
      if (fails) throw new Error('broken clock');
      return world.time.now;
    };
    const node = world.start({ clock });
    await world.settle();
    for (let n = 0; n < 2; n += 1) await world.check(node, 'c');
    const verdicts = verdictsOf(node.checkAsync('c'));
    fails = true;
    await world.settle();
    expect(verdicts).toMatchObject([{ outcome: 'delay', rule: 'messages' }]);
    await expect(node.checkAsync('c')).rejects.toThrow('broken clock');
    fails = false;
    expect(node.getStats().scopes['connection']?.totalViolations).toBe(1);
    expect(node.getStats().store).toMatchObject({ inFlight: 0, failures: 0 });
  });

  it('answers a refusal within its deadline, although the store is still to be told of the violation', async () => {
    const world = new RuleWorld(1, { ...PUNISHED, mode });
    await world.settle();
    const [node] = world.nodes as [SharedRuleLimiter];
    for (let n = 0; n < 2; n += 1) await world.check(node, 'c');
    const { calls } = node.getStats().store;
    world.carry = (act) => void world.time.after(0.045, act);
    const verdicts = verdictsOf(node.checkAsync('c'));
    // The reply has come after 0.09 seconds, and the store is to be told of the violation by another call.
    await world.time.run(0.095);
    expect([verdicts, node.getStats().store.calls]).toEqual([[], calls + 2]);
    await world.time.run(0.006);
    expect(verdicts).toMatchObject([{ outcome: 'delay', rule: 'messages' }]);
  });
});

describe('SharedRuleLimiter in mode leased', () => {
  const LIMIT: RuleOptions = {
    scopes: { connection: {}, server: { single: true } },
    rules: {
      messages: { scope: 'connection', rateLimit: 10, burstLimit: 20 },
      everybody: { scope: 'server', rateLimit: 10, burstLimit: 20 },
    },
    onStoreFailure: 'closed',
  };

  /**
   * A node makes a check and is stopped for some seconds before it reads the reply. Returns whether it admits the check, and
   * what another node is admitted when the first one goes on.
   */
  async function stopped(seconds: number, cost: number): Promise<[first: string, others: number]> {
    // While the first node is stopped, its timers do not fire, but its clock goes on, as the store's does.
    let stoppedSeconds = 0;
    const world = new RuleWorld(0, LIMIT, (time) => () => time.now + stoppedSeconds);
    const clock = () => world.time.now + stoppedSeconds;
    const [first, second] = [world.start({ clock }), world.start({ clock })];
    await world.settle();
    // Loads the script, so that the check is sent at once.
    for (const node of [first, second]) void node.checkAsync('another');
    await world.time.run(60);
    const waiting: (() => void)[] = [];
    world.carry = (act) => waiting.push(act);
    const verdicts = verdictsOf(first.checkAsync('c', cost));
    waiting.shift()?.();
    world.carry = undefined;
    stoppedSeconds = seconds;
    let others = 0;
    while ((await world.check(second, 'c')).outcome === 'allow') others += 1;
    for (const arrive of waiting) arrive();
    await world.settle();
    return [verdicts[0]?.outcome ?? 'none', others];
  }

  it('admits a check after a stop only if the store has not refilled its cost', async () => {
    expect(await stopped(0.4, 20)).toEqual(['allow', 0]);
    expect(await stopped(2.6, 20)).toEqual(['delay', 20]);
  });
});
