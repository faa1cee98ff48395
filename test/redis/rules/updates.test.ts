// SharedRuleLimiter.update in virtual time: who follows and when, what stays, and the bound.

import { afterEach, describe, expect, it, vi } from 'vitest';
import type { SharedRuleLimiter } from '../../../lib/redis/index.js';
import { type Admission, excess } from '../../../out/examples/fleet/bound.js';
import { seeded } from '../../support/random.js';
import { type RuleOptions, RuleWorld } from '../support/rule-world.js';

let world: RuleWorld;
afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const rules = (rateLimit: number, burstLimit: number) => ({
  messages: { scope: 'account', rateLimit, burstLimit },
});
const OPTIONS: RuleOptions = { scopes: { account: {} }, rules: rules(1, 100) };

type Three = [SharedRuleLimiter, SharedRuleLimiter, SharedRuleLimiter];

async function started(nodes: number, options: Partial<RuleOptions> = {}): Promise<Three> {
  world = new RuleWorld(nodes, { ...OPTIONS, ...options });
  await world.settle();
  return world.nodes as Three;
}

/** Resolves with the value of a promise that needs the virtual time. */
async function run<Value>(promise: Promise<Value>): Promise<Value> {
  promise.catch(() => {});
  await world.settle();
  return promise;
}

/** What a node allows of a key that nobody knows, at once. */
async function burstOf(node: SharedRuleLimiter): Promise<number> {
  return (await run(node.peek({ account: `new ${world.time.now}` }))).rules[0]?.limit as number;
}

describe('SharedRuleLimiter.update', () => {
  it.each(['leased', 'strict'] as const)(
    'changes the rules of all nodes within a second, and keeps what is used (%s)',
    async (mode) => {
      const [one, two, three] = await started(3, { mode });
      let events = 0;
      two.on('rules', () => {
        events += 1;
      });
      await run(one.charge('a', 90));
      await run(one.update({ rules: rules(1, 95), deny: { account: ['bad'] } }));
      expect(await burstOf(one)).toBe(95);
      await world.time.run(1);
      expect([await burstOf(two), await burstOf(three), events]).toEqual([95, 95, 1]);
      expect((await world.check(two, 'a', 7)).outcome).toBe('delay');
      expect((await world.check(three, 'a', 5)).outcome).toBe('allow');
      expect((await world.check(three, 'bad')).outcome).toBe('denied');
      await world.time.run(5);
      expect(events).toBe(1);
    },
  );

  it('is followed by opened peers', async () => {
    const [one, two] = await started(2);
    const peer = two.open('a');
    await run(one.update({ deny: { account: ['a'] } }));
    await world.time.run(1);
    expect(peer.checkLocally()).toMatchObject({ outcome: 'denied' });
  });

  it('is adopted by a node that starts with rules of before, and not by one with new rules until the next update', async () => {
    const [one] = await started(1);
    await run(one.update({ rules: rules(1, 60) }));
    await run(one.update({ rules: rules(1, 40) }));
    const old = world.start();
    const middle = world.start({ rules: rules(1, 60) });
    const other = world.start({ rules: rules(1, 77) });
    await world.time.run(2);
    expect([await burstOf(old), await burstOf(middle), await burstOf(other)]).toEqual([40, 40, 77]);
    await run(one.update({ rules: rules(1, 30) }));
    await world.time.run(1);
    expect([await burstOf(old), await burstOf(other)]).toEqual([30, 30]);
  });

  it('is written again if the store loses its data', async () => {
    const [one, two] = await started(2);
    await run(one.update({ rules: rules(1, 40) }));
    await world.time.run(1);
    world.server.restart();
    await world.time.run(2);
    const late = world.start();
    await world.time.run(1);
    expect([await burstOf(two), await burstOf(late)]).toEqual([40, 40]);
  });

  it('keeps both changes if two nodes change different sections at once', async () => {
    const [one, two, three] = await started(3);
    const updates = Promise.all([
      one.update({ rules: rules(1, 40) }),
      two.update({ deny: { account: ['bad'] } }),
    ]);
    await run(updates);
    await world.time.run(1);
    for (const node of [one, two, three]) {
      expect(await burstOf(node)).toBe(40);
      expect((await world.check(node, 'bad')).outcome).toBe('denied');
    }
  });

  it('rejects invalid rules, and a store that does not answer, and changes nothing', async () => {
    const [one, two] = await started(2);
    const invalid = one.update({ rules: { messages: { scope: 'nobody', rateLimit: 1 } } });
    await expect(run(invalid)).rejects.toMatchObject({ code: 'ERR_LIMITER_OPTION' });
    world.isAway = true;
    const away = one.update({ rules: rules(1, 40) });
    await expect(run(away)).rejects.toMatchObject({ code: 'ERR_LIMITER_STORE' });
    world.isAway = false;
    await world.time.run(2);
    expect([await burstOf(one), await burstOf(two)]).toEqual([100, 100]);
    await run(one.close());
    await expect(one.update({})).rejects.toThrow('SharedRuleLimiter is closed');
  });

  it('is reported once where it cannot be adopted, and the node goes on with its rules', async () => {
    const [one] = await started(1);
    const other = world.start({
      scopes: { account: {}, address: { kind: 'address' } },
      rules: rules(1, 77),
    });
    const errors: string[] = [];
    other.on('failure', ({ message }) => errors.push(message));
    await world.time.run(1);
    await run(one.update({ rules: rules(1, 40) }));
    await world.time.run(5);
    expect(errors).toEqual([expect.stringContaining('of other scopes')]);
    expect(await burstOf(other)).toBe(77);
  });

  it('looks at unchanged rules without reading them', async () => {
    const [one] = await started(1);
    await run(one.update({ deny: { account: ['a name on the list'] } }));
    await world.time.run(1);
    const replies: string[] = [];
    const { version } = world.server;
    const sync = version.sync.bind(version);
    version.sync = (args) => {
      const reply = sync(args);
      replies.push(reply);
      return reply;
    };
    await world.time.run(2);
    expect(replies.length).toBeGreaterThan(1);
    for (const reply of replies) expect(reply).not.toContain('a name');
  });

  it.each([
    ['leased', { rate: 2, burst: 200 }, { rate: 0.5, burst: 200 }],
    ['leased', { rate: 50, burst: 200 }, { rate: 0.5, burst: 60 }],
    ['strict', { rate: 50, burst: 200 }, { rate: 0.5, burst: 60 }],
  ] as const)(
    'is the bound from the moment on at which all have followed: %s, from %o to %o',
    async (mode, before, after) => {
      const random = seeded(7);
      const nodes = await started(3, {
        mode,
        rules: rules(before.rate, before.burst),
        leaseSeconds: 5,
      });
      const admissions: Admission[] = [];
      let isCounted = false;
      const keepChecking = (node: SharedRuleLimiter): void => {
        world.time.after(random() * 0.2, () => {
          void node.checkAsync('a').then(({ outcome }) => {
            if (outcome === 'allow' && isCounted) admissions.push({ at: world.time.now, cost: 1 });
          });
          keepChecking(node);
        });
      };
      // In mode leased more is on lease when the rules change than the lower burst.
      for (const node of nodes) for (let n = 0; n < 3; n += 1) await world.check(node, 'a', 4);
      const leased = nodes.reduce((sum, node) => sum + node.getStats().leasedTokens, 0);
      expect(leased > 60).toBe(mode === 'leased');
      await run(nodes[0].update({ rules: rules(after.rate, after.burst) }));
      await world.time.run(1);
      isCounted = true;
      for (const node of nodes) keepChecking(node);
      await world.time.run(20);
      expect(excess(admissions, after.rate, after.burst)).toBeLessThanOrEqual(1e-3);
      expect(admissions.length).toBeGreaterThan(after.burst / 4);
    },
  );
});
