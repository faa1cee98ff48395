// RuleLimiter.scope: one scope as a limiter of its own, for those who watch it.

import { RuleLimiter, type RuleLimiterOptions } from 'relay-limiter';
import { beforeEach, describe, expect, test } from 'vitest';
import { codeOf, ENGINES, type ManualClock, manualClock } from '../support/limiters.js';

describe.each(ENGINES)('RuleLimiter.scope on the %s engine', (engine) => {
  let clock: ManualClock;
  beforeEach(() => {
    clock = manualClock(1000);
  });
  const RULES = {
    messages: { scope: 'address', rateLimit: 1, burstLimit: 2 },
    trial: { scope: 'address', rateLimit: 1, burstLimit: 1, dryRun: true },
    nets: { scope: 'network', rateLimit: 1, burstLimit: 100 },
  };
  const create = (options: Partial<RuleLimiterOptions> = {}) =>
    new RuleLimiter({
      engine,
      clock,
      scopes: {
        address: { kind: 'address' },
        network: { from: 'address', ipv4Subnet: 24 },
        server: { single: true },
      },
      rules: RULES,
      bans: { address: { violations: 3, withinSeconds: 60, seconds: [60, 600] } },
      ...options,
    });
  const ADDRESS = '192.0.2.7';

  test('accepts the names of scopes with keys', () => {
    const limits = create();
    expect(limits.scopeNames).toEqual(['address', 'network']);
    expect(limits.scope('network').name).toBe('network');
    expect(codeOf(() => limits.scope('account'))).toBe('ERR_LIMITER_KEY');
    expect(codeOf(() => limits.scope('server'))).toBe('ERR_LIMITER_OPTION');
  });

  test('counts what its rules have answered, and the bans that began', () => {
    const limits = create();
    // Two checks are allowed, two are refused, and the fifth begins a ban, during which no rule is asked.
    for (let n = 0; n < 7; n += 1) limits.check(ADDRESS);
    const { memoryBytes, ...overview } = limits.scope('address').getOverview();
    expect(memoryBytes === undefined).toBe(engine === 'js');
    expect(overview).toEqual({
      peers: 1,
      trackedPeers: 1,
      totalViolations: 3,
      topViolators: [[ADDRESS, 3]],
      // The rule on dry run refuses nothing: five times allowed.
      verdicts: { allow: 7, delay: 2, disconnect: 1 },
      bansBegun: 1,
      evictions: 0,
      lossyEvictions: 0,
      refusedNewcomers: 0,
      unnamedOffenders: 0,
    });
    const { scopes } = limits.getStats();
    expect(scopes['address']?.verdicts).toEqual(overview.verdicts);
    expect(limits.scope('network').getOverview()).toMatchObject({
      peers: 1,
      totalViolations: 0,
      verdicts: { allow: 5, delay: 0, disconnect: 0 },
    });
  });

  test('keeps the verdicts of rules that an update removes, replaces or moves to another scope', () => {
    const limits = create();
    for (let n = 0; n < 7; n += 1) limits.check(ADDRESS);
    const scope = limits.scope('address');
    const before = scope.getOverview().verdicts;
    const other = { scope: 'address', rateLimit: 1 };
    limits.update({ rules: { nets: RULES.nets } });
    expect(scope.getOverview().verdicts).toEqual(before);
    limits.update({ rules: { other, messages: { ...RULES.messages, scope: 'network' } } });
    expect(scope.getOverview().verdicts).toEqual(before);
    limits.update({ rules: { other, another: other } });
    clock.now += 1000;
    limits.check(ADDRESS);
    expect(scope.getOverview().verdicts).toEqual({ ...before, allow: before.allow + 2 });
    expect(limits.scope('network').getOverview().verdicts).toEqual({
      allow: 5,
      delay: 0,
      disconnect: 0,
    });
  });

  test('finds, bans and lifts by any address of a key', () => {
    const limits = create();
    for (let n = 0; n < 4; n += 1) limits.check(ADDRESS);
    const scope = limits.scope('address');
    expect(scope.getViolationCount(`::ffff:${ADDRESS}`)).toBe(2);
    expect([scope.isBanned(ADDRESS), scope.banSecondsLeft(ADDRESS)]).toEqual([false, 0]);
    const networks = limits.scope('network');
    expect(networks.ban('192.0.2.99', 1e9)).toBe(true);
    expect(networks.getBans()).toEqual({ count: 1, bans: [['192.0.2.0/24', 1e9]] });
    expect(networks.isBanned('192.0.2.0/24')).toBe(true);
    expect(limits.check(ADDRESS).scope).toBe('network');
    expect([networks.unban(ADDRESS), networks.unban(ADDRESS)]).toEqual([true, false]);
    scope.removePeer(ADDRESS);
    expect(scope.getOverview().peers).toBe(0);
    for (const call of ['getViolationCount', 'isBanned', 'ban', 'unban', 'removePeer'] as const) {
      expect(codeOf(() => scope[call]('mallory'))).toBe('ERR_LIMITER_KEY');
    }
  });

  test('bans for the first length of its policy, or for any other', () => {
    const limits = create();
    const scope = limits.scope('address');
    expect([scope.banDuration, scope.maxBanSeconds]).toEqual([60, Infinity]);
    scope.ban(ADDRESS);
    expect(scope.banSecondsLeft(ADDRESS)).toBe(60);
    scope.ban(ADDRESS, Infinity);
    expect(scope.getBans(1).bans).toEqual([[ADDRESS, Infinity]]);
    limits.update({ bans: {} });
    expect(scope.banDuration).toBe(0);
    expect(codeOf(() => scope.ban(ADDRESS))).toBe('ERR_LIMITER_OPTION');
  });
});
