// The contract of a check of several rules: scopes, actions, units, warnings, dry run and single scopes, on both engines
// and the model.

import { describe, expect, test } from 'vitest';
import type { RulesSpec } from './plans.js';
import { CORES, RuleSubject, rounded } from './subject.js';

const PEER = { address: 'peer' };

/** One scope with these rules. */
const rules = (of: Record<string, Partial<RulesSpec['rules'][string]>>): RulesSpec => ({
  scopes: { address: false },
  rules: Object.fromEntries(
    Object.entries(of).map(([name, rule]) => [
      name,
      { scope: 'address', rate: 1, burst: 1, ...rule },
    ]),
  ),
});

describe.each(CORES)('A check of several rules of the %s core', (core) => {
  const subject = (spec: RulesSpec, maxPeers?: number) => new RuleSubject(core, spec, maxPeers);
  const two: RulesSpec = {
    scopes: { connection: false, address: false },
    rules: {
      messages: { scope: 'connection', rate: 1, burst: 5 },
      all: { scope: 'address', rate: 2, burst: 8 },
    },
  };
  const keys = { connection: 'c', address: 'a' };

  test('takes from all rules, or from none', () => {
    const limiter = subject(two);
    expect(limiter.check(keys, { cost: 5 })).toBe('allowed');
    expect(limiter.check(keys)).toEqual({ delay: rounded(1), rule: 'messages' });
    expect(limiter.peek(keys).used).toEqual({ messages: 5, all: 5 });
    const other = { connection: 'd', address: 'a' };
    expect(limiter.check(other, { cost: 4 })).toEqual({ delay: rounded(0.5), rule: 'all' });
    expect(limiter.peek(other).used).toEqual({ messages: 0, all: 5 });
    expect(limiter.check(other, { cost: 3 })).toBe('allowed');
    expect(limiter.peek(other).used).toEqual({ messages: 3, all: 8 });
    expect(limiter.counts('messages')).toEqual([4, 1, 0]);
    expect(limiter.counts('all')).toEqual([4, 1, 0]);
    expect(limiter.answers()).toEqual([2, 2, 0]);
  });

  test('gives the longest delay, and the rule with it', () => {
    const limiter = subject(two);
    limiter.charge(keys, { cost: 10 });
    // 6 in excess at 1 per second, 3 at 2 per second.
    expect(limiter.check(keys)).toEqual({ delay: rounded(6), rule: 'messages' });
    expect(limiter.check({ address: 'a' })).toEqual({ delay: rounded(1.5), rule: 'all' });
    expect(limiter.check(keys, { cost: 6 })).toEqual({ delay: Infinity, rule: 'messages' });
    limiter.charge({ address: 'a' }, { cost: 90 });
    expect(limiter.check(keys)).toEqual({ delay: rounded(46.5), rule: 'all' });
    expect(limiter.counts('messages')).toEqual([3, 3, 0]);
    expect(limiter.counts('all')).toEqual([4, 4, 0]);
  });

  test.each([
    ['a', 'b'],
    ['b', 'a'],
  ])('with equal delays names the rule that was declared first: %s before %s', (first, second) => {
    const scopes = { one: false, two: false };
    const of = { a: { scope: 'two' }, b: { scope: 'one' } } as Record<string, { scope: string }>;
    const limiter = subject({
      scopes,
      rules: {
        [first]: { ...(of[first] as { scope: string }), rate: 1, burst: 1 },
        [second]: { ...(of[second] as { scope: string }), rate: 1, burst: 1 },
      },
    });
    const both = { one: 'x', two: 'x' };
    limiter.check(both);
    expect(limiter.check(both)).toEqual({ delay: rounded(1), rule: first });
    expect(limiter.check(both, { cost: 2 })).toEqual({ delay: Infinity, rule: first });
  });

  test('asks the scopes of its keys only', () => {
    const limiter = subject(two);
    limiter.charge(keys, { cost: 100 });
    expect(limiter.check({ connection: 'new' })).toBe('allowed');
    expect(limiter.check({ connection: 'c' })).toMatchObject({ rule: 'messages' });
    expect(limiter.check({ address: 'new' })).toBe('allowed');
    expect(limiter.check({})).toBe('allowed');
    expect(limiter.counts('messages')).toEqual([2, 1, 0]);
    expect(limiter.counts('all')).toEqual([1, 0, 0]);
    expect(limiter.answers()).toEqual([3, 1, 0]);
  });

  test('does not confuse the same key in two scopes', () => {
    const limiter = subject(two);
    const same = { connection: 'x', address: 'x' };
    expect(limiter.check(same, { cost: 5 })).toBe('allowed');
    limiter.removePeer('connection', 'x');
    expect(limiter.peek(same).used).toEqual({ messages: 0, all: 5 });
    expect(limiter.check(same, { cost: 3 })).toBe('allowed');
  });

  test('asks all rules of a scope', () => {
    const limiter = subject(
      rules({
        'a second': { rate: 2, burst: 2 },
        'a minute': { rate: 10 / 60, burst: 10 },
        'an hour': { rate: 100 / 3600, burst: 100 },
      }),
    );
    let allowed = 0;
    for (let n = 0; n < 1200; n += 1) {
      limiter.at(1000 + n / 4);
      if (limiter.check(PEER) === 'allowed') allowed += 1;
    }
    // 10 at once, then 10 per minute for 300 seconds.
    expect(allowed).toBeGreaterThanOrEqual(10 + 48);
    expect(allowed).toBeLessThanOrEqual(10 + 50);
    expect(limiter.counts('an hour')[1]).toBe(0);
    expect(limiter.counts('a minute')[1]).toBeGreaterThan(1000);
  });

  describe('by action', () => {
    const spec = rules({
      all: { rate: 1, burst: 10 },
      connects: { rate: 1, burst: 2, actions: ['connect'] },
      events: { rate: 1, burst: 3, actions: ['event', 'report'] },
    });

    test('asks the rules of the action and those of every action', () => {
      const limiter = subject(spec);
      const check = (action: string, cost = 1) => limiter.check(PEER, { action, cost });
      expect(check('connect', 2)).toBe('allowed');
      expect(check('connect')).toEqual({ delay: rounded(1), rule: 'connects' });
      expect(check('event', 2)).toBe('allowed');
      expect(check('report')).toBe('allowed');
      expect(check('report')).toEqual({ delay: rounded(1), rule: 'events' });
      expect(check('other', 5)).toBe('allowed');
      expect(check('')).toEqual({ delay: rounded(1), rule: 'all' });
      expect(limiter.peek(PEER).used).toEqual({ all: 10, connects: 2, events: 3 });
      expect(limiter.counts('connects')).toEqual([2, 1, 0]);
      expect(limiter.counts('events')).toEqual([3, 1, 0]);
      expect(limiter.counts('all')).toEqual([7, 1, 0]);
    });

    test('refills all rules of the peer, also those that do not apply', () => {
      const limiter = subject(spec);
      limiter.check(PEER, { action: 'connect', cost: 2 });
      limiter.at(1001).check(PEER, { action: 'event' });
      expect(limiter.peek(PEER).used).toEqual({ all: 2, connects: 1, events: 1 });
      limiter.at(1001.5);
      expect(limiter.peek(PEER).used).toEqual({ all: 1.5, connects: 0.5, events: 0.5 });
    });

    test('leaves a scope without a rule for the action alone', () => {
      const limiter = subject({
        scopes: { address: false, account: false },
        rules: {
          a: { scope: 'address', rate: 1, burst: 1 },
          b: { scope: 'account', rate: 1, burst: 1, actions: ['event'] },
        },
      });
      const both = { address: 'x', account: 'y' };
      expect(limiter.check(both)).toBe('allowed');
      expect([limiter.peers('address'), limiter.peers('account')]).toEqual([1, 0]);
      expect(limiter.at(1001).check(both, { action: 'event' })).toBe('allowed');
      expect([limiter.peers('address'), limiter.peers('account')]).toEqual([1, 1]);
    });
  });

  describe('by unit', () => {
    const spec = rules({
      messages: { rate: 1, burst: 3 },
      bytes: { rate: 100, burst: 1000, unit: 1 },
      tokens: { rate: 1, burst: 10, unit: 7 },
    });

    test('takes from each rule the cost of its unit', () => {
      const limiter = subject(spec);
      const check = (cost: number[]) => limiter.check(PEER, { cost });
      expect(check([1, 600])).toBe('allowed');
      expect(check([1, 600])).toEqual({ delay: rounded(2), rule: 'bytes' });
      expect(check([0, 0, 0, 0, 0, 0, 0, 10])).toBe('allowed');
      expect(check([2, 400, 77])).toBe('allowed');
      expect(check([1, 0, 0, 0, 0, 0, 0, 2])).toEqual({ delay: rounded(2), rule: 'tokens' });
      expect(limiter.peek(PEER).used).toEqual({ messages: 3, bytes: 1000, tokens: 10 });
    });

    test('is refused by a rule without a cost only while more than its burst is used', () => {
      const limiter = subject(spec);
      limiter.charge(PEER, { cost: [0, 1100] });
      expect(limiter.check(PEER)).toEqual({ delay: rounded(1), rule: 'bytes' });
      expect(limiter.violations('address', 'peer')).toBe(0);
      expect(limiter.at(1001).check(PEER)).toBe('allowed');
      expect(limiter.counts('messages')).toEqual([2, 0, 0]);
    });
  });

  describe('with warnings', () => {
    const warning = (rule: string) => ({ warning: rule });

    test('warns if less than the share of the burst is left after it', () => {
      const limiter = subject(rules({ messages: { rate: 1, burst: 10, warnBelow: 0.2 } }));
      expect(limiter.check(PEER, { cost: 8 })).toBe('allowed');
      expect(limiter.check(PEER, { cost: 0.5 })).toEqual(warning('messages'));
      expect(limiter.check(PEER, { cost: 1.5 })).toEqual(warning('messages'));
      expect(limiter.check(PEER, { cost: 1 })).toMatchObject({ rule: 'messages' });
      expect(limiter.check(PEER, { cost: 0 })).toEqual(warning('messages'));
      expect(limiter.at(1002).check(PEER, { cost: 0 })).toBe('allowed');
      expect(limiter.answers()).toEqual([5, 1, 0]);
    });

    test('warns below 1 of everything but a full bucket, and below 0 of nothing', () => {
      const limiter = subject(
        rules({ one: { burst: 10, warnBelow: 1 }, zero: { burst: 10, warnBelow: 0 } }),
      );
      expect(limiter.check(PEER, { cost: 0 })).toBe('allowed');
      expect(limiter.check(PEER, { cost: 2 ** -40 })).toEqual(warning('one'));
      expect(limiter.check(PEER, { cost: 9 })).toEqual(warning('one'));
    });

    test('names the rule with the smallest share left, not the one that is furthest below', () => {
      const limiter = subject({
        scopes: { one: false, two: false },
        rules: {
          'many left': { scope: 'one', rate: 1, burst: 10, warnBelow: 1 },
          few: { scope: 'two', rate: 1, burst: 4, warnBelow: 0.5 },
        },
      });
      const both = { one: 'x', two: 'x' };
      expect(limiter.check(both)).toEqual(warning('many left'));
      expect(limiter.check(both)).toEqual(warning('many left'));
      expect(limiter.check(both)).toEqual(warning('few'));
      expect(limiter.check({ one: 'x' })).toEqual(warning('many left'));
    });

    test('with equal shares names the rule that was declared first', () => {
      const rule = { rate: 1, warnBelow: 0.9 };
      const limiter = subject({
        scopes: { one: false, two: false },
        rules: {
          b: { ...rule, scope: 'two', burst: 4 },
          a: { ...rule, scope: 'one', burst: 2 },
          c: { ...rule, scope: 'one', burst: 2 },
        },
      });
      limiter.charge({ two: 'x' }, { cost: 1 });
      expect(limiter.check({ one: 'x', two: 'x' })).toEqual(warning('b'));
    });

    test('never warns of a rule on dry run', () => {
      const limiter = subject(
        rules({
          dry: { burst: 4, warnBelow: 1, dryRun: true },
          messages: { burst: 10, warnBelow: 0.5 },
        }),
      );
      expect(limiter.check(PEER, { cost: 4 })).toBe('allowed');
      expect(limiter.check(PEER, { cost: 2 })).toEqual(warning('messages'));
    });
  });

  describe('on dry run', () => {
    const spec = rules({
      messages: { rate: 1, burst: 4 },
      dry: { rate: 1, burst: 2, dryRun: true },
    });

    test('is never refused by the rule, which counts what it would refuse', () => {
      const limiter = subject(spec);
      for (let n = 0; n < 4; n += 1) expect(limiter.check(PEER)).toBe('allowed');
      expect(limiter.peek(PEER).used).toEqual({ messages: 4, dry: 2 });
      expect(limiter.counts('dry')).toEqual([4, 0, 2]);
      expect(limiter.counts('messages')).toEqual([4, 0, 0]);
      expect(limiter.violations('address', 'peer')).toBe(0);
    });

    test('charges the rule as if it alone decided', () => {
      const limiter = subject(spec);
      limiter.charge(PEER, { cost: 4 });
      expect(limiter.used(PEER, 'dry')).toBe(0);
      expect(limiter.check(PEER)).toEqual({ delay: rounded(1), rule: 'messages' });
      expect(limiter.check(PEER, { cost: 3 })).toEqual({ delay: rounded(3), rule: 'messages' });
      expect(limiter.peek(PEER).used).toEqual({ messages: 4, dry: 1 });
      expect(limiter.counts('dry')).toEqual([2, 0, 1]);
      limiter.refund(PEER, { cost: 4 });
      expect(limiter.peek(PEER).used).toEqual({ messages: 0, dry: 1 });
    });

    test('stores a record for what the rule takes from a refused check', () => {
      const limiter = subject(
        rules({ messages: { burst: 1, violation: false }, dry: { burst: 10, dryRun: true } }),
      );
      expect(limiter.check(PEER, { cost: 2 })).toEqual({ delay: Infinity, rule: 'messages' });
      expect(limiter.peers('address')).toBe(1);
      expect(limiter.peek(PEER).used).toEqual({ messages: 0, dry: 2 });
    });
  });

  test('asks a single scope without a key', () => {
    const limiter = subject({
      scopes: { connection: false, server: true },
      rules: {
        messages: { scope: 'connection', rate: 1, burst: 3 },
        everybody: { scope: 'server', rate: 10, burst: 5, warnBelow: 0.1 },
      },
    });
    expect(limiter.check({ connection: 'a' }, { cost: 3 })).toBe('allowed');
    expect(limiter.check({ connection: 'b' }, { cost: 2 })).toEqual({ warning: 'everybody' });
    for (let n = 0; n < 50; n += 1) {
      expect(limiter.check({ connection: 'c' })).toEqual({
        delay: rounded(0.1),
        rule: 'everybody',
      });
    }
    expect(limiter.check({})).toEqual({ delay: rounded(0.1), rule: 'everybody' });
    // No record, no violation: nobody in particular has refused it.
    expect(limiter.statistics('server')).toMatchObject({ peers: 0, totalViolations: 0 });
    expect(limiter.peers('connection')).toBe(2);
    expect(limiter.violations('connection', 'c')).toBe(0);
    expect(limiter.at(1000.25).check({ connection: 'c' })).toBe('allowed');
    expect(limiter.used({}, 'everybody')).toBe(3.5);
    limiter.charge({}, { cost: 10 });
    expect(limiter.used({}, 'everybody')).toBe(13.5);
    limiter.refund({}, { cost: 12 });
    expect(limiter.used({}, 'everybody')).toBe(1.5);
    limiter.core.clear();
    expect(limiter.used({}, 'everybody')).toBe(0);
    expect(limiter.counts('everybody')).toEqual([54, 51, 0]);
  });

  test('asks all rules of eight scopes with thirteen rules each', () => {
    const scopes = Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`scope-${i}`, i === 7]));
    const all = Object.keys(scopes).flatMap((scope, i) =>
      Array.from({ length: 13 }, (_, n) => [
        `${scope} ${n}`,
        { scope, rate: 1 + n, burst: 1000 - i * 13 - n, unit: n % 8 },
      ]),
    );
    const limiter = subject({ scopes, rules: Object.fromEntries(all) });
    const eight = Object.fromEntries(Object.keys(scopes).map((scope) => [scope, `of ${scope}`]));
    expect(limiter.check(eight, { cost: [1, 2, 3, 4, 5, 6, 7, 8] })).toBe('allowed');
    const { used } = limiter.peek(eight);
    for (let i = 0; i < 8; i += 1) {
      for (let n = 0; n < 13; n += 1) expect(used[`scope-${i} ${n}`]).toBe(1 + (n % 8));
    }
    // The last one has the smallest burst of unit 4.
    const rule = 'scope-7 12';
    expect(limiter.check(eight, { cost: [0, 0, 0, 0, 893] })).toEqual({
      delay: rounded((5 + 893 - 897) / 13),
      rule,
    });
    const many = limiter.core.totals();
    expect(many.checked.slice(0, 104)).toEqual(new Float64Array(104).fill(2));
  });
});
