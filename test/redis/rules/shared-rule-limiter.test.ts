// SharedRuleLimiter in virtual time, with a simulated store: the verdicts of RuleLimiter, all rules or none, calls of the
// store, bans of all nodes, and what happens without a store.

import { RuleLimiter } from 'relay-limiter';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SharedRuleLimiter } from '../../../lib/redis/index.js';
import type { RuleBan } from '../../../lib/rules/types.js';
import { codeOf } from '../../support/limiters.js';
import { type RuleOptions, RuleWorld } from '../support/rule-world.js';

let world: RuleWorld;
const createWorld = (nodes: number, options: RuleOptions) => {
  world = new RuleWorld(nodes, options);
  return world.settle();
};
const first = () => world.nodes[0] as SharedRuleLimiter;
const second = () => world.nodes[1] as SharedRuleLimiter;
afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

/** Checks until the first refusal, and returns the number of allowed checks. */
async function spendAll(
  node: SharedRuleLimiter,
  ...check: Parameters<SharedRuleLimiter['checkAsync']>
): Promise<number> {
  let allowed = 0;
  while ((await world.check(node, ...check)).outcome === 'allow') allowed += 1;
  return allowed;
}

const TWO_RULES: RuleOptions = {
  scopes: { connection: {}, address: { kind: 'address' } },
  rules: {
    messages: { scope: 'connection', rateLimit: 0.01, burstLimit: 20 },
    events: { scope: 'address', rateLimit: 0.005, burstLimit: 30 },
  },
};
const PEER = { connection: 'c1', address: '192.0.2.7' };

describe.each(['leased', 'strict'] as const)('SharedRuleLimiter in mode %s', (mode) => {
  const start = (nodes: number, options: RuleOptions) => createWorld(nodes, { mode, ...options });

  it('admits exactly the burst of each rule, whichever node asks', async () => {
    await start(2, TWO_RULES);
    expect(await spendAll(first(), PEER)).toBe(20);
    const other = { connection: 'c2', address: '192.0.2.7' };
    const more = await spendAll(second(), other);
    first().removePeer(PEER);
    // The address had 30 tokens, of which the first node may have leased some ahead. The second asks again after a second.
    await world.time.run(1.001);
    const rest = await spendAll(second(), other);
    expect(20 + more + rest).toBe(30);
  });

  it('takes from no rule if one refuses', async () => {
    await start(1, TWO_RULES);
    expect(await spendAll(first(), PEER)).toBe(20);
    for (let n = 0; n < 5; n += 1) await world.check(first(), PEER);
    const { rules } = await peek(first(), PEER);
    expect(rules.map(({ rule, remaining }) => [rule, Math.round(remaining)])).toEqual([
      ['messages', 0],
      ['events', 10],
    ]);
  });

  it('names the rule with the longest wait, and its wait is enough', async () => {
    await start(1, {
      scopes: { account: {} },
      rules: {
        short: { scope: 'account', rateLimit: 2, burstLimit: 4 },
        long: { scope: 'account', rateLimit: 0.1, burstLimit: 4 },
      },
    });
    expect(await spendAll(first(), 'a')).toBe(4);
    const { rule, scope, delaySeconds } = await world.check(first(), 'a');
    expect([rule, scope]).toEqual(['long', 'account']);
    expect(delaySeconds).toBeGreaterThan(9.9);
    await world.time.run(delaySeconds);
    expect((await world.check(first(), 'a')).outcome).toBe('allow');
  });

  it('refuses for ever what costs more than a burst', async () => {
    await start(1, TWO_RULES);
    const { outcome, delaySeconds, rule } = await world.check(first(), PEER, 25);
    expect([outcome, delaySeconds, rule]).toEqual(['delay', Infinity, 'messages']);
  });

  it('follows plans, actions, units and lists as RuleLimiter does', async () => {
    const options: RuleOptions = {
      scopes: { account: {}, address: { kind: 'address' }, server: { single: true } },
      rules: {
        logins: { scope: 'account', action: 'login', quota: 2, windowSeconds: 900 },
        bytes: { scope: 'account', unit: 'bytes', rateLimit: 1, burstLimit: 100 },
        everybody: { scope: 'server', rateLimit: 1, burstLimit: 50 },
      },
      plans: { paid: { logins: { quota: 4, windowSeconds: 900 }, bytes: null } },
      allow: { address: ['10.0.0.0/8'] },
      deny: { address: ['198.51.100.0/24'] },
    };
    await start(1, options);
    const local = new RuleLimiter({ ...(options as object as typeof options), clock: () => 5 });
    const checks: Parameters<RuleLimiter['check']>[] = [
      [{ account: 'a' }, 1, 'login'],
      [{ account: 'a' }, 1, 'login'],
      [{ account: 'a' }, 1, 'login'],
      [{ account: 'a' }, 1, 'login', 'paid'],
      [{ account: 'a' }, 1, 'login', 'paid'],
      [{ account: 'a' }, 1, 'login', 'paid'],
      [{ account: 'a' }, { bytes: 60 }],
      [{ account: 'a' }, { bytes: 60 }],
      [{ account: 'a' }, { bytes: 60 }, undefined, 'paid'],
      [{ account: 'a', address: '10.1.2.3' }, 999, 'login'],
      [{ account: 'a', address: '198.51.100.7' }],
      [{ account: 'b' }, { requests: 45, bytes: 0 }],
      [{ account: 'c' }, 10],
    ];
    for (const [at, check] of checks.entries()) {
      const { delaySeconds, ...verdict } = await world.check(first(), ...check);
      const { delaySeconds: expected, ...same } = local.check(...check);
      expect([at, verdict]).toEqual([at, same]);
      expect(delaySeconds).toBeGreaterThanOrEqual(
        expected === Infinity ? Infinity : expected - 0.1,
      );
    }
  });

  it('warns where little is left', async () => {
    await start(1, {
      scopes: { account: {} },
      rules: { events: { scope: 'account', rateLimit: 0.001, burstLimit: 10, warnBelow: 0.35 } },
    });
    const warnings = [];
    for (let n = 0; n < 10; n += 1) warnings.push((await world.check(first(), 'a')).warning);
    expect(warnings).toEqual([...new Array(6).fill(null), ...new Array(4).fill('events')]);
  });

  it('counts what rules on dry run would refuse, and refuses nothing for them', async () => {
    await start(1, {
      scopes: { account: {} },
      rules: {
        real: { scope: 'account', rateLimit: 0.001, burstLimit: 20 },
        tried: { scope: 'account', rateLimit: 0.001, burstLimit: 5, dryRun: true },
      },
    });
    expect(await spendAll(first(), 'a')).toBe(20);
    const { tried, real } = first().getStats().rules;
    expect(tried).toEqual({ scope: 'account', checked: 21, refused: 0, dryRunRefused: 16 });
    expect(real).toEqual({ scope: 'account', checked: 21, refused: 1, dryRunRefused: 0 });
  });

  it('gives back, and takes without asking', async () => {
    await start(1, TWO_RULES);
    await run(first().charge(PEER, 18));
    expect(await spendAll(first(), PEER)).toBe(2);
    await run(first().refund(PEER, 3));
    await world.time.run(0.3);
    expect(await spendAll(first(), PEER)).toBe(3);
    await run(first().charge(PEER, 100));
    const { rules } = await peek(first(), PEER);
    expect(rules[0]?.remaining).toBeLessThan(-90);
  });

  describe('with a ban policy', () => {
    const bans: RuleBan[] = [];
    beforeEach(() => bans.splice(0));
    const punished: RuleOptions = {
      scopes: { connection: {}, address: { kind: 'address' } },
      rules: {
        messages: { scope: 'address', rateLimit: 0.001, burstLimit: 2 },
      },
      bans: { address: { violations: 2.5, withinSeconds: 60, seconds: [60, 600] } },
      onBan: (ban) => bans.push(ban),
    };

    it('bans with the refusal that is one too many, on all nodes', async () => {
      await start(2, punished);
      await spendAll(first(), PEER);
      const outcomes = [];
      for (let n = 0; n < 3; n += 1) outcomes.push((await world.check(first(), PEER)).outcome);
      expect(outcomes).toEqual(['delay', 'banned', 'banned']);
      await world.settle();
      const verdict = await world.check(second(), PEER);
      expect(verdict).toMatchObject({ outcome: 'banned', rule: null, scope: 'address' });
      expect(verdict.delaySeconds).toBeGreaterThan(59);
      expect(second().getBans('address')).toMatchObject({
        count: 1,
        bans: [['192.0.2.7', second().banSecondsLeft('address', '192.0.2.7')]],
      });
      expect(bans).toEqual([
        { scope: 'address', key: '192.0.2.7', rule: 'messages', violations: 3, banDuration: 60 },
      ]);
      expect(first().getStats().outcomes).toEqual({ allow: 2, delay: 2, banned: 2, denied: 0 });
      expect(first().getStats().scopes['address']).toMatchObject({
        bansBegun: 1,
        totalViolations: 3,
      });
    });

    it('sums violations over nodes', async () => {
      await start(4, punished);
      await spendAll(first(), PEER);
      // The first refusal was that of the first node.
      expect((await world.check(second(), PEER)).outcome).toBe('delay');
      expect((await world.check(world.nodes[2] as SharedRuleLimiter, PEER)).outcome).toBe('banned');
    });

    it('bans longer the next time, and less again after a while', async () => {
      await start(2, {
        ...punished,
        bans: {
          address: {
            violations: 1,
            withinSeconds: 1,
            seconds: [10, 100],
            forgetAfterSeconds: 1000,
          },
        },
      });
      await spendAll(first(), PEER);
      expect(bans.map(({ banDuration }) => banDuration)).toEqual([10]);
      await world.time.run(11);
      expect(await world.check(second(), PEER)).toMatchObject({
        outcome: 'banned',
        delaySeconds: 100,
      });
      await world.time.run(100 + 2001);
      await spendAll(first(), PEER);
      expect(bans.map(({ banDuration }) => banDuration)).toEqual([10, 100, 10]);
    });

    it('bans and unbans by hand on all nodes', async () => {
      await start(2, punished);
      await world.time.run(1);
      first().ban('address', '192.0.2.7', Infinity);
      await world.settle();
      expect(second().banSecondsLeft('address', '192.0.2.7')).toBe(Infinity);
      expect((await world.check(second(), PEER)).delaySeconds).toBe(Infinity);
      expect(second().scope('address').isBanned('192.0.2.7')).toBe(true);
      await world.time.run(1);
      expect(second().unban('address', '192.0.2.7')).toBe(true);
      await world.settle();
      expect((await world.check(first(), PEER)).outcome).toBe('allow');
      expect(second().unban('address', '192.0.2.7')).toBe(false);
    });
  });

  it('applies the failure policy while the store is away, and names it', async () => {
    for (const onStoreFailure of ['closed', 'open', 'share'] as const) {
      await start(1, { ...TWO_RULES, onStoreFailure, nodes: 2 });
      world.isAway = true;
      for (let n = 0; n < 3; n += 1) await world.check(first(), { connection: `x${n}` });
      expect(first().getStats().store.state).toBe('down');
      const verdict = await world.check(first(), PEER);
      expect(verdict.outcome).toBe(onStoreFailure === 'open' ? 'allow' : 'delay');
      expect(first().getStats().fallbackVerdicts).toBeGreaterThan(0);
      if (onStoreFailure !== 'share') continue;
      // Half of a rate of 0.005.
      expect(verdict.delaySeconds).toBeGreaterThan(390);
      expect(verdict).toMatchObject({ rule: 'events', scope: 'address' });
      await world.time.run(verdict.delaySeconds);
      expect((await world.check(first(), PEER)).outcome).toBe('allow');
      expect((await world.check(first(), PEER)).outcome).toBe('delay');
    }
  });

  it('rejects what RuleLimiter throws, and counts nothing', async () => {
    await start(1, TWO_RULES);
    expect(await codeIn(first().checkAsync({ nobody: 'x' }))).toBe('ERR_LIMITER_KEY');
    expect(await codeIn(first().checkAsync(PEER, -1))).toBe('ERR_LIMITER_COST');
    expect(await codeIn(first().checkAsync(PEER, 1, 'message', 'none'))).toBe('ERR_LIMITER_OPTION');
    expect(first().getStats().outcomes.allow).toBe(0);
  });

  it('changes rules while it runs, and keeps what is used', async () => {
    await start(1, TWO_RULES);
    for (let n = 0; n < 15; n += 1) await world.check(first(), PEER);
    const update = first().update({
      rules: {
        messages: { scope: 'connection', rateLimit: 1, burstLimit: 40 },
        more: { scope: 'address', rateLimit: 1, burstLimit: 100 },
      },
    });
    await run(update);
    expect(await spendAll(first(), PEER)).toBe(25);
    expect(Object.keys(first().getStats().rules)).toEqual(['messages', 'more']);
  });
});

describe('SharedRuleLimiter', () => {
  it.each<[string, object]>([
    ['no client', { client: undefined }],
    ['leases that end before the reply', { leaseSeconds: 0.9, deadlineSeconds: 0.5 }],
    ['an unknown mode', { mode: 'local' }],
    ['an unknown policy', { onStoreFailure: 'panic' }],
    ['an infinite deadline', { deadlineSeconds: Infinity }],
    ['a prefix with braces', { prefix: 'a{b}' }],
    ['no processes', { nodes: 0 }],
    ['an unknown option', { cleanup: true }],
  ])('refuses %s', (_, wrong) => {
    const client = { eval() {}, evalSha() {}, connect() {}, on() {}, off() {} };
    const make = () => new SharedRuleLimiter({ client, ...TWO_RULES, ...wrong });
    expect(codeOf(make)).toBe('ERR_LIMITER_OPTION');
  });
});

describe('SharedRuleLimiter in mode leased', () => {
  it('makes at most one call of the store for ten messages of a steady peer', async () => {
    await createWorld(1, {
      scopes: { connection: {}, address: { kind: 'address' }, server: { single: true } },
      rules: {
        messages: { scope: 'connection', rateLimit: 50, burstLimit: 100 },
        bytes: { scope: 'connection', unit: 'bytes', rateLimit: 50_000, burstLimit: 200_000 },
        events: { scope: 'address', quota: 6000, windowSeconds: 3600 },
        everybody: { scope: 'server', rateLimit: 20_000 },
      },
    });
    const before = world.server.checks;
    for (let n = 0; n < 1000; n += 1) {
      await world.time.run(0.025);
      const { outcome } = await world.check(first(), PEER, { requests: 1, bytes: 500 });
      expect(outcome).toBe('allow');
    }
    expect(world.server.checks - before).toBeLessThanOrEqual(100);
  });

  it('leases nothing ahead for a peer that comes once, and holds its cost for half a second', async () => {
    await createWorld(1, TWO_RULES);
    await world.check(first(), PEER);
    expect(world.server.checks).toBe(1);
    for (const { used, last, leases } of world.server.rules.buckets.values()) {
      expect([used, leases.map(({ amount, ends }) => [amount, ends - last])]).toEqual([
        1,
        [[1, expect.closeTo(0.5, 6)]],
      ]);
    }
  });

  it('decides covered checks without a promise, also by check and checkLocally', async () => {
    await createWorld(1, TWO_RULES);
    expect(first().checkLocally(PEER)).toBeUndefined();
    expect(first().check(PEER)).toMatchObject({ outcome: 'delay', delaySeconds: 0.1, rule: null });
    await world.settle();
    expect(first().check(PEER).outcome).toBe('allow');
    await world.check(first(), PEER);
    const calls = world.server.checks;
    expect(first().checkLocally(PEER)).toMatchObject({ outcome: 'allow' });
    expect(first().check(PEER)).toMatchObject({ outcome: 'allow' });
    expect(world.server.checks).toBe(calls);
  });

  it('returns its leases when a peer leaves and when it closes', async () => {
    await createWorld(1, TWO_RULES);
    for (let n = 0; n < 4; n += 1) await world.check(first(), PEER);
    const onLease = world.server.rules.leased();
    expect(onLease).toBeGreaterThan(0);
    // The store does not know yet what has been spent.
    expect(first().getStats().leasedTokens).toBeLessThanOrEqual(onLease);
    first().removePeer({ connection: 'c1' });
    await world.settle();
    expect(world.server.rules.leased()).toBeLessThan(onLease);
    const closed = first().close();
    await world.settle();
    await closed;
    expect(world.server.rules.leased()).toBe(0);
    const remaining = [...world.server.rules.buckets.values()].map(({ used }) => Math.round(used));
    expect(remaining).toEqual([4, 4]);
  });

  it('keeps at most maxPeers keys of a scope, and returns the leases of the others', async () => {
    await createWorld(1, { ...TWO_RULES, maxPeers: 3 });
    for (let n = 0; n < 12; n += 1) {
      for (let m = 0; m < 2; m += 1) await world.check(first(), { connection: `c${n % 4}` });
    }
    const stats = first().getStats().scopes['connection'];
    expect(stats?.peers).toBeLessThanOrEqual(3);
    expect(stats?.evictions).toBeGreaterThan(0);
    expect(first().getStats().leasedTokens).toBeLessThanOrEqual(world.server.rules.leased());
  });

  it('does not block a check that shares only the server with one in flight', async () => {
    await createWorld(1, {
      scopes: { connection: {}, server: { single: true } },
      rules: {
        messages: { scope: 'connection', rateLimit: 1, burstLimit: 20 },
        everybody: { scope: 'server', rateLimit: 1, burstLimit: 100 },
      },
    });
    await world.check(first(), { connection: 'z' });
    world.isSilent = true;
    const checks = ['a', 'b', 'c'].map((connection) => first().checkAsync({ connection }));
    await world.settle();
    expect(first().getStats().store.inFlight).toBe(3);
    world.endSilence();
    await world.settle();
    const verdicts = await Promise.all(checks);
    expect(verdicts.map(({ outcome }) => outcome)).toEqual(['allow', 'allow', 'allow']);
  });

  it('throws in check with mode strict, and says what to call', async () => {
    await createWorld(1, { ...TWO_RULES, mode: 'strict' });
    expect(codeOf(() => first().check(PEER))).toBe('ERR_LIMITER_OPTION');
    expect(codeOf(() => first().open(PEER).check())).toBe('ERR_LIMITER_OPTION');
  });

  it('checks opened peers as their keys, and follows assign and update', async () => {
    await createWorld(1, TWO_RULES);
    const peer = first().open({ connection: 'c1' });
    for (let n = 0; n < 20; n += 1) await run(peer.checkAsync());
    expect((await run(peer.checkAsync())).rule).toBe('messages');
    peer.assign({ connection: 'c2', address: '192.0.2.7' });
    expect(peer.check().outcome).toBe('delay');
    await world.settle();
    expect(peer.check().outcome).toBe('allow');
    await run(first().update({ deny: { address: ['192.0.2.0/24'] } }));
    expect(peer.checkLocally()).toMatchObject({ outcome: 'denied', scope: 'address' });
  });
});

/** Resolves with the value of a promise that needs the virtual time. */
async function run<Value>(promise: Promise<Value>): Promise<Value> {
  promise.catch(() => {});
  await world.settle();
  return promise;
}

const peek = (node: SharedRuleLimiter, ...of: Parameters<SharedRuleLimiter['peek']>) =>
  run(node.peek(...of));

async function codeIn(promise: Promise<unknown>): Promise<unknown> {
  try {
    await run(promise);
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
  return undefined;
}
