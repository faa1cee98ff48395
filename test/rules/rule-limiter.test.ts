// RuleLimiter's contract of checks, on both engines: names, keys, lists, plans, warnings, dry run.

import { RuleLimiter, type RuleLimiterOptions } from 'relay-limiter';
import { beforeEach, describe, expect, test } from 'vitest';
import { ENGINES, type ManualClock, manualClock } from '../support/limiters.js';
import { ALLOWED, banned, delayed, denied, STEP } from './verdicts.js';

describe.each(ENGINES)('RuleLimiter on the %s engine', (engine) => {
  let clock: ManualClock;
  beforeEach(() => {
    clock = manualClock(1000);
  });
  const create = (options: Partial<RuleLimiterOptions>) =>
    new RuleLimiter({ engine, clock, scopes: { peer: {} }, rules: {}, ...options });

  test('without rules allows everything and stores nothing', () => {
    const limits = create({});
    expect(limits).toMatchObject({ engine, maxPeers: 1_000_000 });
    expect(limits.check('a', 1e9, 'any')).toEqual(ALLOWED);
    expect(limits.getStats().scopes['peer']?.peers).toBe(0);
  });

  test('takes from every rule that applies, or from none', () => {
    const limits = create({
      scopes: { connection: {}, account: {}, server: { single: true } },
      rules: {
        messages: { scope: 'connection', rateLimit: 1, burstLimit: 3 },
        events: { scope: 'account', action: 'event', quota: 2, windowSeconds: 4 },
        everybody: { scope: 'server', rateLimit: 10, burstLimit: 10 },
      },
    });
    const keys = { connection: 'c', account: 'a' };
    expect(limits.check(keys, 1, 'event')).toEqual(ALLOWED);
    expect(limits.check(keys, 1, 'event')).toEqual(ALLOWED);
    expect(limits.check(keys, 1, 'event')).toEqual(delayed(2, 'events', 'account'));
    expect(limits.check(keys, 1, 'query')).toEqual(ALLOWED);
    expect(limits.check(keys)).toEqual(delayed(1, 'messages', 'connection'));
    const left = limits
      .peek(keys, 1, 'event')
      .rules.map(({ rule, remaining }) => [rule, remaining]);
    expect(left).toEqual([
      ['messages', 0],
      ['events', 0],
      ['everybody', 7],
    ]);
    expect(limits.check({ account: 'a' })).toEqual(ALLOWED);
    clock.now += 2 + STEP;
    expect(limits.check(keys, 1, 'event')).toEqual(ALLOWED);
  });

  test('counts each unit by itself', () => {
    const limits = create({
      rules: {
        requests: { scope: 'peer', rateLimit: 1, burstLimit: 10 },
        bytes: { scope: 'peer', unit: 'bytes', rateLimit: 100, burstLimit: 1000 },
      },
    });
    const left = () => limits.peek('a').rules.map(({ remaining }) => remaining);
    limits.check('a');
    expect(left()).toEqual([9, 1000]);
    limits.check('a', { bytes: 300 });
    expect(left()).toEqual([8, 700]);
    limits.check('a', { requests: 0, bytes: 700 });
    expect(left()).toEqual([8, 0]);
    expect(limits.check('a', { bytes: 50 })).toEqual(delayed(0.5, 'bytes', 'peer'));
    expect(limits.check('a')).toEqual(ALLOWED);
    limits.charge('a', { bytes: 200 });
    expect(limits.check('a')).toEqual(delayed(2, 'bytes', 'peer'));
    expect(left()).toEqual([6, -200]);
    limits.refund('a', { requests: 2, bytes: 1e6 });
    expect(left()).toEqual([8, 1000]);
    limits.refund('a', { requests: 5, bytes: 0 });
    expect(left()).toEqual([10, 1000]);
  });

  test('counts keys of addresses by their networks', () => {
    const limits = create({
      scopes: {
        address: { kind: 'address' },
        network: { from: 'address', ipv4Subnet: 24, ipv6Subnet: 48 },
      },
      rules: {
        address: { scope: 'address', rateLimit: 1, burstLimit: 2 },
        network: { scope: 'network', rateLimit: 1, burstLimit: 3 },
      },
    });
    const of = (address: string) => limits.check({ address }).rule;
    expect([of('192.0.2.1'), of('::ffff:192.0.2.1'), of('192.0.2.1')]).toEqual([
      null,
      null,
      'address',
    ]);
    expect([of('192.0.2.2'), of('192.0.2.3')]).toEqual([null, 'network']);
    expect([of('192.0.3.3')]).toEqual([null]);
    expect([of('2001:db8::1'), of('2001:DB8:0:0:1::'), of('2001:db8::2')]).toEqual([
      null,
      null,
      'address',
    ]);
    expect([of('2001:db8:0:1::'), of('2001:db8:0:2::')]).toEqual([null, 'network']);
    expect(limits.check('2001:db8::/64').rule).toBe('address');
    expect(limits.banSecondsLeft('network', '192.0.2.0/24')).toBe(0);
    limits.ban('network', '192.0.2.77', 60);
    expect(limits.getBans('network')).toEqual({ count: 1, bans: [['192.0.2.0/24', 60]] });
    expect(limits.check('192.0.2.9')).toEqual(banned(60, 'network'));
    limits.removePeer({ network: '192.0.2.0/24' });
    expect(limits.check('192.0.2.9')).toEqual(ALLOWED);
    limits.removePeer('192.0.2.1');
    expect(of('192.0.2.1')).toBe(null);
  });

  test('gives a derived scope the subnets of its source', () => {
    const limits = create({
      scopes: {
        address: { kind: 'address', ipv4Subnet: 24, ipv6Subnet: 48 },
        own: { from: 'address' },
      },
      rules: {},
    });
    limits.ban('own', '192.0.2.7', 60);
    limits.ban('own', '2001:db8::1', 60);
    expect(
      limits
        .getBans('own')
        .bans.map(([key]) => key)
        .sort(),
    ).toEqual(['192.0.2.0/24', '2001:db8::/48']);
  });

  test('lets keys on an allow list through, before deny lists and bans, and charges nothing', () => {
    const limits = create({
      scopes: { address: { kind: 'address' }, account: {} },
      rules: { all: { scope: 'address', rateLimit: 1, burstLimit: 1 } },
      allow: { account: ['operator'], address: ['10.0.0.0/8'] },
      deny: { address: ['198.51.100.0/24', '10.1.0.0/16'], account: ['mallory'] },
    });
    for (let n = 0; n < 3; n += 1) expect(limits.check({ address: '10.1.2.3' })).toEqual(ALLOWED);
    limits.ban('address', '10.1.2.3', 60);
    expect(limits.check({ address: '10.1.2.3' })).toEqual(ALLOWED);
    limits.charge({ address: '10.1.2.3' });
    expect(limits.peek({ address: '10.1.2.3' })).toMatchObject({
      verdict: ALLOWED,
      rules: [{ remaining: 1 }],
    });
    expect(limits.check({ address: '198.51.100.7', account: 'operator' })).toEqual(ALLOWED);
    expect(limits.check({ address: '198.51.100.7', account: 'bob' })).toEqual(denied('address'));
    expect(limits.check({ address: '192.0.2.1', account: 'mallory' })).toEqual(denied('account'));
    expect(limits.check({ address: '192.0.2.1', account: 'mallory' })).toEqual(denied('account'));
    expect(limits.getStats().outcomes).toEqual({ allow: 5, delay: 0, banned: 0, denied: 3 });
    const peer = limits.open({ address: '198.51.100.7', account: 'bob' });
    expect(peer.check()).toEqual(denied('address'));
    limits.update({ deny: {} });
    expect(peer.check()).toEqual(ALLOWED);
    limits.update({ allow: { account: ['bob'] } });
    expect([peer.check(), peer.check()]).toEqual([ALLOWED, ALLOWED]);
    expect(limits.check({ address: '10.1.2.3' })).toEqual(banned(60, 'address'));
  });

  test('a list has addresses as they are given, not their networks', () => {
    const limits = create({
      scopes: { address: { kind: 'address' }, network: { from: 'address', ipv6Subnet: 48 } },
      rules: {},
      deny: { address: ['2001:db8::5'], network: ['2001:db8:5::/64'] },
    });
    expect(limits.check('2001:db8::5')).toEqual(denied('address'));
    expect(limits.check('2001:db8::6')).toEqual(ALLOWED);
    expect(limits.check('2001:db8::/64')).toEqual(ALLOWED);
    expect(limits.check('2001:db8:5::7')).toEqual(denied('network'));
    expect(limits.check('2001:db8:5:1::7')).toEqual(ALLOWED);
  });

  test('gives plans other numbers, or no rule', () => {
    const limits = create({
      rules: {
        messages: { scope: 'peer', rateLimit: 1, burstLimit: 2, warnBelow: 0.5 },
        events: { scope: 'peer', action: 'event', quota: 2, windowSeconds: 100 },
      },
      plans: {
        paid: { messages: null, events: { quota: 5 } },
        slow: { messages: { quota: 1, windowSeconds: 10 }, events: { burstLimit: 1 } },
      },
    });
    const limitsOf = (plan?: string) =>
      limits.peek('a', 1, 'event', plan).rules.map(({ rule, limit }) => [rule, limit]);
    expect(limitsOf()).toEqual([
      ['messages', 2],
      ['events', 2],
    ]);
    expect(limitsOf('paid')).toEqual([['events', 5]]);
    expect(limitsOf('slow')).toEqual([
      ['messages', 1],
      ['events', 1],
    ]);
    for (let n = 0; n < 5; n += 1) {
      expect(limits.check('a', 1, 'event', 'paid')).toEqual(ALLOWED);
    }
    expect(limits.check('a', 1, 'event', 'paid')).toEqual(delayed(20, 'events', 'peer'));
    expect(limits.check('a', 1, 'event')).toEqual(delayed(200, 'events', 'peer'));
    expect(limits.check('a')).toEqual(ALLOWED);
    expect(limits.check('a', 1, undefined, 'slow')).toEqual(delayed(10, 'messages', 'peer'));
    expect(limits.check('a')).toEqual({ ...ALLOWED, warning: 'messages' });
  });

  test('warns of the rule with the smallest share left', () => {
    const limits = create({
      rules: {
        small: { scope: 'peer', rateLimit: 1, burstLimit: 10, warnBelow: 0.5 },
        large: { scope: 'peer', rateLimit: 1, burstLimit: 100, warnBelow: 0.99 },
      },
    });
    expect(limits.check('a')).toEqual(ALLOWED);
    expect(limits.check('a').warning).toBe('large');
    limits.check('a', 3);
    const warned = limits.check('a');
    expect(warned).toEqual({ ...ALLOWED, warning: 'small' });
    expect(Object.isFrozen(warned)).toBe(true);
    expect(limits.check('a')).toBe(warned);
  });

  test('counts what a rule on dry run would refuse, and refuses nothing', () => {
    const limits = create({
      rules: {
        trial: { scope: 'peer', rateLimit: 1, burstLimit: 2, dryRun: true },
        real: { scope: 'peer', rateLimit: 1, burstLimit: 4 },
      },
      bans: { peer: { violations: 3, withinSeconds: 10, seconds: 60 } },
    });
    const verdicts = Array.from({ length: 5 }, () => limits.check('a'));
    expect(verdicts.map(({ rule }) => rule)).toEqual([null, null, null, null, 'real']);
    expect(limits.getStats().rules).toEqual({
      trial: { scope: 'peer', checked: 5, refused: 0, dryRunRefused: 3 },
      real: { scope: 'peer', checked: 5, refused: 1, dryRunRefused: 0 },
    });
  });

  test('an opened peer returns what its keys return, and takes keys and a plan at login', () => {
    const limits = create({
      scopes: { connection: {}, account: {} },
      rules: {
        messages: { scope: 'connection', rateLimit: 1, burstLimit: 2 },
        events: { scope: 'account', rateLimit: 1, burstLimit: 1 },
      },
      plans: { paid: { messages: { burstLimit: 4 } } },
    });
    const keys = { connection: 'c' };
    const peer = limits.open(keys);
    keys.connection = 'changed';
    expect([peer.keys, peer.plan]).toEqual([{ connection: 'c' }, undefined]);
    peer.check();
    peer.assign({ account: 'alice' }, 'paid');
    expect([peer.keys, peer.plan]).toEqual([{ connection: 'c', account: 'alice' }, 'paid']);
    expect(peer.check()).toEqual(ALLOWED);
    expect(peer.check()).toEqual(delayed(1, 'events', 'account'));
    expect(peer.peek().rules.map(({ limit, remaining }) => [limit, remaining])).toEqual([
      [4, 2],
      [1, 0],
    ]);
    expect(limits.peek({ connection: 'c' }).rules[0]?.remaining).toBe(0);
    peer.refund();
    expect(peer.check()).toEqual(ALLOWED);
    peer.charge(2);
    expect(limits.peek({ account: 'alice' }).rules[0]?.remaining).toBe(-2);
    limits.update({ plans: {} });
    expect(peer.plan).toBe('paid');
    expect(peer.peek().rules[0]?.limit).toBe(2);
    limits.clear();
    expect(peer.check()).toEqual(ALLOWED);
  });
});
