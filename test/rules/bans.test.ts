// Violations, levels and bans on both engines and the model.

import { describe, expect, test } from 'vitest';
import { banningSubject, PEER, REFUSED, RULE, untilBan } from './banning.js';
import type { BanSpec, RuleSpec, RulesSpec } from './plans.js';
import { CORES, RuleSubject, rounded } from './subject.js';

describe.each(CORES)('On the %s core', (core) => {
  const subject = (spec: RulesSpec, maxPeers?: number) => new RuleSubject(core, spec, maxPeers);
  const banning = (policy?: Partial<BanSpec>, rule?: Partial<RuleSpec>) =>
    banningSubject(core, policy, rule);

  describe('a refused check', () => {
    test('is a violation, also without a ban policy', () => {
      const limiter = subject({ scopes: { address: false }, rules: { messages: RULE } });
      for (let n = 1; n < 200; n += 1) {
        expect(limiter.check(PEER, REFUSED)).toEqual({ delay: Infinity, rule: 'messages' });
        expect(limiter.violations('address', 'peer')).toBe(n);
      }
      expect(limiter.violations('address', 'other')).toBe(0);
      expect(limiter.statistics('address')).toMatchObject({
        ...{ peers: 1, totalViolations: 199, topViolators: [['peer', 199]], bansBegun: 0 },
      });
    });

    test('is no violation of a rule that does not count, of cost 0, or on dry run', () => {
      const limiter = subject({
        scopes: { address: false },
        rules: {
          free: { ...RULE, violation: false },
          bytes: { ...RULE, unit: 1 },
          dry: { ...RULE, unit: 2, dryRun: true },
        },
        bans: { address: { violations: 1, withinSeconds: 1, seconds: [60] } },
      });
      expect(limiter.check(PEER, { cost: 2 })).toEqual({ delay: Infinity, rule: 'free' });
      expect(limiter.check(PEER, { cost: [0, 0, 2] })).toBe('allowed');
      expect(limiter.peers('address')).toBe(0);
      limiter.charge(PEER, { cost: [0, 2] });
      expect(limiter.check(PEER, { cost: [0, 0] })).toEqual({ delay: rounded(1), rule: 'bytes' });
      expect(limiter.check(PEER, { cost: [5, 0] })).toEqual({ delay: Infinity, rule: 'free' });
      expect(limiter.violations('address', 'peer')).toBe(0);
      expect(limiter.check(PEER, { cost: [0, 1] })).toMatchObject({ ban: 60, rule: 'bytes' });
    });

    test('is one violation of each scope with a refusing rule that counts', () => {
      const limiter = subject({
        scopes: { connection: false, address: false, account: false, server: true },
        rules: {
          a: { ...RULE, scope: 'connection' },
          b: { ...RULE, scope: 'connection' },
          c: { ...RULE, scope: 'address', violation: false },
          d: { ...RULE, scope: 'account', burst: 100 },
          e: { ...RULE, scope: 'server' },
        },
      });
      const keys = { connection: 'x', address: 'x', account: 'x' };
      limiter.check(keys, REFUSED);
      for (const [scope, violations] of [
        ['connection', 1],
        ['address', 0],
        ['account', 0],
      ] as const) {
        expect([scope, limiter.violations(scope, 'x')]).toEqual([scope, violations]);
        expect([scope, limiter.peers(scope)]).toEqual([scope, violations]);
      }
    });
  });

  describe('a ban', () => {
    test('begins with the violation that brings the level to the limit', () => {
      const limiter = banning();
      const delayed = { delay: Infinity, rule: 'messages' };
      expect(limiter.check(PEER, REFUSED)).toEqual(delayed);
      expect(limiter.check(PEER, REFUSED)).toEqual(delayed);
      expect(limiter.check(PEER, REFUSED)).toEqual({
        ...{ ban: 60, scope: 'address', rule: 'messages' },
        begun: { address: { seconds: 60, violations: 3, rule: 'messages' } },
      });
      expect(limiter.answers()).toEqual([0, 2, 1]);
      expect(limiter.counts('messages')).toEqual([3, 3, 0]);
      expect(limiter.statistics('address').bansBegun).toBe(1);
      expect(limiter.banSecondsLeft('address', 'peer')).toBe(60);
    });

    test('holds until its end, counts its checks and changes nothing else', () => {
      const limiter = banning({}, { burst: 10 });
      limiter.check(PEER, { cost: 6 });
      for (let n = 0; n < 3; n += 1) limiter.check(PEER, { cost: 11 });
      limiter.at(1002);
      for (let n = 0; n < 5; n += 1) {
        expect(limiter.check(PEER)).toEqual({ ban: 58, scope: 'address' });
      }
      expect(limiter.check(PEER, { cost: 0 })).toEqual({ ban: 58, scope: 'address' });
      expect(limiter.violations('address', 'peer')).toBe(3);
      expect(limiter.counts('messages')).toEqual([4, 3, 0]);
      expect(limiter.answers()).toEqual([1, 2, 7]);
      expect(limiter.used(PEER, 'messages')).toBe(4);
      limiter.at(1060 - 2 ** -30);
      expect(limiter.check(PEER)).toEqual({ ban: 2 ** -30, scope: 'address' });
      limiter.at(1060);
      expect(limiter.banSecondsLeft('address', 'peer')).toBe(0);
      expect(limiter.check(PEER)).toBe('allowed');
      expect(limiter.violations('address', 'peer')).toBe(3);
    });

    test('needs more violations than drain: the budget of 3 in 30 seconds', () => {
      // At one violation every 10 seconds the level never grows.
      const steady = banning();
      for (let n = 0; n < 50; n += 1) {
        expect(steady.at(1000 + n * 10).check(PEER, REFUSED)).toMatchObject({ delay: Infinity });
      }
      expect(steady.violations('address', 'peer')).toBe(50);
      // Two at once, then one every 10 seconds: the level goes from 2 to 1 and back.
      const limiter = banning();
      for (const now of [1000, 1000, 1010, 1020, 1030]) {
        expect(limiter.at(now).check(PEER, REFUSED)).toMatchObject({ delay: Infinity });
      }
      expect(limiter.at(1035).check(PEER, REFUSED)).toMatchObject({ delay: Infinity });
      // Now 2.5, so within 5 seconds it is 2 again.
      expect(limiter.at(1039.5).check(PEER, REFUSED)).toMatchObject({ ban: 60 });
    });

    test('begins at exactly the limit', () => {
      for (const [last, banned] of [
        [1010, true],
        [1010 + 2 ** -20, false],
      ] as const) {
        const limiter = banning({ violations: 4, withinSeconds: 40 });
        for (let n = 0; n < 3; n += 1) limiter.check(PEER, REFUSED);
        // 3, and after 10 seconds 2, then 3, and 4 with one more.
        limiter.at(last).check(PEER, REFUSED);
        const verdict = limiter.check(PEER, REFUSED);
        expect(verdict).toMatchObject(banned ? { ban: 60 } : { delay: Infinity });
      }
    });

    test('begins with one violation where one is enough', () => {
      for (const violations of [1, 0.5]) {
        const limiter = banning({ violations });
        expect(limiter.check(PEER)).toBe('allowed');
        expect(limiter.check(PEER)).toMatchObject({
          begun: { address: { seconds: 60, violations: 1, rule: 'messages' } },
        });
      }
    });

    test('begins with a level of 0, and climbs the ladder with each one', () => {
      const limiter = banning();
      const lengths: number[] = [];
      for (let n = 0; n < 5; n += 1) {
        for (let i = 0; i < 2; i += 1) {
          expect(limiter.check(PEER, REFUSED)).toMatchObject({ delay: Infinity });
        }
        lengths.push(untilBan(limiter));
        limiter.now += limiter.banSecondsLeft('address', 'peer');
      }
      expect(lengths).toEqual([60, 600, 3600, 3600, 3600]);
      expect(limiter.violations('address', 'peer')).toBe(15);
      expect(limiter.statistics('address').bansBegun).toBe(5);
    });

    test('of Infinity seconds is for ever', () => {
      const limiter = banning({ seconds: [1, Infinity], jitter: 0.5 });
      untilBan(limiter);
      limiter.now += 2;
      expect(untilBan(limiter)).toBe(Infinity);
      limiter.now = 1e18;
      expect(limiter.check(PEER)).toEqual({ ban: Infinity, scope: 'address' });
      expect(limiter.longestBans('address')).toEqual({ count: 1, bans: [['peer', Infinity]] });
      expect(limiter.unban('address', 'peer')).toBe(true);
      expect(limiter.check(PEER)).toBe('allowed');
    });

    test('forgets one level for each interval since the last one ended', () => {
      const ladder = [10, 20, 30, 40];
      const lengthsAfter = (...pauses: number[]) => {
        const limiter = banning({ seconds: ladder, forgetAfterSeconds: 100 });
        return pauses.map((pause) => {
          limiter.now += limiter.banSecondsLeft('address', 'peer') + pause;
          return untilBan(limiter);
        });
      };
      expect(lengthsAfter(0, 0, 0, 0)).toEqual([10, 20, 30, 40]);
      expect(lengthsAfter(0, 99, 99, 99.9)).toEqual([10, 20, 30, 40]);
      expect(lengthsAfter(0, 100, 0, 100)).toEqual([10, 10, 20, 20]);
      expect(lengthsAfter(0, 0, 0, 250, 0)).toEqual([10, 20, 30, 20, 30]);
      expect(lengthsAfter(0, 0, 0, 1e9, 0)).toEqual([10, 20, 30, 10, 20]);
    });

    test('never forgets a level without an interval', () => {
      const limiter = banning({ seconds: [10, 20, 30] });
      untilBan(limiter);
      limiter.now += 1e9;
      expect(untilBan(limiter)).toBe(20);
    });

    test.each([
      [0, 0.9],
      [0.25, 0.95],
      [0.5, 1],
      [0.75, 1.05],
      [0.99, 1.098],
    ])('is longer or shorter by the jitter: at random %d by the factor %d', (random, factor) => {
      const limiter = banning({ jitter: 0.1 });
      const seconds = untilBan(limiter, random);
      expect(seconds).toBe(60 * (1 + 0.1 * (2 * random - 1)));
      expect(seconds).toBeCloseTo(60 * factor, 9);
      limiter.now += seconds / 2;
      expect(limiter.banSecondsLeft('address', 'peer')).toBe(1000 + seconds - limiter.now);
    });

    test('drains its level at no time twice when the clock steps back', () => {
      const limiter = banning({ violations: 4, withinSeconds: 40 });
      limiter.check(PEER, REFUSED);
      limiter.check(PEER, REFUSED);
      limiter.at(900).check(PEER, REFUSED);
      // From the last instant, 1000, and not from 900: the level is 2 after 10 seconds, and 3 with this one.
      expect(limiter.at(1010).check(PEER, REFUSED)).toMatchObject({ delay: Infinity });
      expect(limiter.check(PEER, REFUSED)).toMatchObject({ ban: 60 });
    });

    test('is the longest of those in force, and of equal ones that of the first scope', () => {
      const limiter = subject({
        scopes: { one: false, two: false, three: false },
        rules: { a: { ...RULE, scope: 'one' } },
      });
      const keys = { one: 'x', two: 'x', three: 'x' };
      limiter.ban('two', 'x', 50);
      expect(limiter.check(keys)).toEqual({ ban: 50, scope: 'two' });
      limiter.ban('three', 'x', 60);
      expect(limiter.check(keys)).toEqual({ ban: 60, scope: 'three' });
      limiter.ban('one', 'x', 60);
      expect(limiter.check(keys)).toEqual({ ban: 60, scope: 'one' });
      expect(limiter.check({ two: 'x', three: 'x' })).toEqual({ ban: 60, scope: 'three' });
      expect(limiter.check({ two: 'x' })).toEqual({ ban: 50, scope: 'two' });
      expect(limiter.check({ one: 'y', two: 'y' })).toBe('allowed');
      limiter.ban('two', 'x', Infinity);
      limiter.ban('three', 'x', Infinity);
      expect(limiter.check(keys)).toEqual({ ban: Infinity, scope: 'two' });
      expect(limiter.answers()).toEqual([1, 0, 6]);
    });

    test('begins in several scopes at once, and the longest answers', () => {
      const ban = (...seconds: number[]) => ({
        violations: 1,
        withinSeconds: 1,
        seconds,
        jitter: 0.5,
      });
      const limiter = subject({
        scopes: { one: false, two: false, three: false, four: false },
        rules: {
          d: { ...RULE, scope: 'four', burst: 100 },
          a: { ...RULE, scope: 'one' },
          b: { ...RULE, scope: 'two', rate: 4 },
          'b slow': { ...RULE, scope: 'two', rate: 2 },
          'b slower, does not count': { ...RULE, scope: 'two', rate: 0.1, violation: false },
          c: { ...RULE, scope: 'three' },
        },
        bans: { one: ban(40), two: ban(20), four: ban(99) },
      });
      const keys = { one: 'x', two: 'x', three: 'x', four: 'x' };
      limiter.check(keys);
      expect(limiter.check(keys, { random: [0, 0.5, 0.5, 0.5] })).toEqual({
        // 20 and 20: the first scope.
        ...{ ban: 20, scope: 'one', rule: 'a' },
        begun: {
          one: { seconds: 20, violations: 1, rule: 'a' },
          two: { seconds: 20, violations: 1, rule: 'b slow' },
        },
      });
      expect(limiter.violations('three', 'x')).toBe(1);
      limiter.at(1020).check(keys);
      expect(limiter.check(keys, { random: [0.25, 0.999] })).toMatchObject({
        ban: 30,
        scope: 'one',
      });
      limiter.at(1100).check(keys);
      expect(limiter.check(keys, { random: [0, 0.75] })).toMatchObject({
        ...{ ban: 25, scope: 'two', rule: 'b slow' },
        begun: { one: { seconds: 20, violations: 3 }, two: { seconds: 25, violations: 3 } },
      });
      expect(limiter.answers()).toEqual([3, 0, 3]);
    });

    test('by equal delays is of the rule that was declared first', () => {
      const limiter = subject({
        scopes: { address: false },
        rules: { b: { ...RULE, actions: ['x'] }, a: RULE },
        bans: { address: { violations: 1, withinSeconds: 1, seconds: [60] } },
      });
      expect(limiter.check(PEER, { ...REFUSED, action: 'x' })).toMatchObject({
        ...{ rule: 'b', begun: { address: { rule: 'b' } } },
      });
    });

    test('takes from no rule but those on dry run when it begins', () => {
      const limiter = subject({
        scopes: { address: false, account: false },
        rules: {
          a: RULE,
          b: { ...RULE, scope: 'account', burst: 10 },
          dry: { ...RULE, scope: 'account', burst: 10, dryRun: true },
        },
        bans: { address: { violations: 1, withinSeconds: 1, seconds: [60] } },
      });
      const keys = { address: 'x', account: 'y' };
      expect(limiter.check(keys, REFUSED)).toMatchObject({ ban: 60 });
      expect(limiter.peek(keys).used).toEqual({ a: 0, b: 0, dry: 2 });
      expect(limiter.check(keys, REFUSED)).toEqual({ ban: 60, scope: 'address' });
      expect(limiter.peek(keys).used).toEqual({ a: 0, b: 0, dry: 2 });
    });
  });

  test('longestBans lists the bans in force, the longest remaining time first', () => {
    const limiter = banning({ violations: 1, seconds: [40] });
    const lengths = [5, 100, 20, 60, Infinity];
    for (const [n, seconds] of lengths.entries()) limiter.ban('address', `peer-${n}`, seconds);
    limiter.check({ address: 'offender' }, REFUSED);
    limiter.check({ address: 'honest' });
    limiter.at(1010);
    const bans = [
      ['peer-4', Infinity],
      ['peer-1', 90],
      ['peer-3', 50],
      ['offender', 30],
      ['peer-2', 10],
    ];
    expect(limiter.longestBans('address')).toEqual({ count: 5, bans });
    expect(limiter.longestBans('address', 2)).toEqual({ count: 5, bans: bans.slice(0, 2) });
    expect(limiter.longestBans('address', 0)).toEqual({ count: 5, bans: [] });
    limiter.unban('address', 'peer-4');
    expect(
      limiter
        .at(1020)
        .longestBans('address')
        .bans.map(([key]) => key),
    ).toEqual([...['peer-1', 'peer-3', 'offender']]);
  });

  test('longestBans lists equal bans in the order of the code units of their keys', () => {
    const limiter = banning();
    // In UTF-8 the last two are in the other order.
    const keys = ['', 'a', 'aa', 'b', '\u00ff', '\u0100', '\u0100a', '\ud83d\ude00', '\uffff'];
    for (const key of [...keys].reverse()) limiter.ban('address', key, 60);
    limiter.ban('address', 'longer', 61);
    limiter.unban('address', 'b');
    limiter.ban('address', 'b', 60);
    const listed = (most: number) => {
      return limiter.longestBans('address', most).bans.map(([key]) => key);
    };
    expect(listed(100)).toEqual(['longer', ...keys]);
    for (let most = 1; most <= keys.length; most += 1) {
      expect(listed(most)).toEqual(['longer', ...keys.slice(0, most - 1)]);
    }
  });

  test('the top violators are the ten with the most violations, ties by the first violation', () => {
    const limiter = banning({ violations: 1e9 });
    for (const [n, violations] of [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9].entries()) {
      for (let i = 0; i < violations; i += 1) limiter.check({ address: `peer-${n}` }, REFUSED);
    }
    const top = [5, 12, 14, 11, 13, 7, 4, 8, 10, 2];
    const { topViolators, totalViolations, peers } = limiter.statistics('address');
    expect(topViolators.map(([key]) => key)).toEqual(top.map((n) => `peer-${n}`));
    expect(topViolators.map(([, violations]) => violations)).toEqual([
      ...[9, 9, 9, 8, 7, 6, 5, 5, 5, 4],
    ]);
    expect([totalViolations, peers]).toEqual([77, 15]);
    for (const n of top.slice(0, 9)) limiter.removePeer('address', `peer-${n}`);
    expect(limiter.statistics('address').topViolators.map(([key]) => key)).toEqual([
      ...['peer-2', 'peer-0', 'peer-9', 'peer-6', 'peer-1', 'peer-3'],
    ]);
  });
});
