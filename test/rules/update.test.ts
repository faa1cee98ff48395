// Updates of rules and plans while peers have used tokens, on both engines and the model.

import { describe, expect, test } from 'vitest';
import { RATE_CHANGES } from '../../dist/engine/rules.js';
import { compile, readSections } from '../../dist/rules/compile.js';
import { readScopes } from '../../dist/rules/sections.js';
import { type RuleSpec, type RulesSpec, addressRules as rules } from './plans.js';
import { CORES, RuleSubject, rounded } from './subject.js';

const PEER = { address: 'peer' };

const SCOPES = { address: false };

describe('An update', () => {
  const scopes = readScopes({ address: { kind: 'address' }, account: {} });
  const given = {
    rules: { messages: { scope: 'account', rateLimit: 1 } },
    plans: { paid: { messages: { rateLimit: 9 } } },
    bans: { account: { violations: 3, withinSeconds: 60, seconds: 60 } },
    allow: { account: ['operator'] },
  };
  const before = compile(scopes, readSections(given, scopes));
  const updated = (sections: Record<string, unknown>) =>
    compile(scopes, readSections(sections, scopes, before.sections), before);

  test('of lists keeps the plan of the engine', () => {
    const { plan, sections } = updated({ deny: { address: ['192.0.2.0/24'] }, allow: {} });
    expect(plan).toBe(before.plan);
    expect(sections.allow).toEqual([undefined, undefined]);
    expect(sections.deny[0]).toBeDefined();
  });

  test('of bans keeps compiled rules and plans', () => {
    const { rules, plan } = updated({ bans: {} });
    expect(rules).toBe(before.rules);
    expect(plan).toEqual({
      ...before.plan,
      bans: [undefined, undefined],
      // No rule is new, and plans stay where they are.
      added: new Uint16Array(2),
      origins: Uint16Array.of(0, 1),
    });
    expect(plan.rates).toBe(before.plan.rates);
  });
});

describe.each(CORES)('An update of the %s core', (core) => {
  const subject = (of: Record<string, Partial<RuleSpec>>, maxPeers?: number) =>
    new RuleSubject(core, { scopes: SCOPES, rules: rules(of) }, maxPeers);

  test('keeps the used tokens and the counts of a rule with another rate and burst', () => {
    const limiter = subject({ a: { rate: 1, burst: 10 } });
    limiter.check(PEER, { cost: 6 });
    limiter.update({ rules: rules({ a: { rate: 2, burst: 8 } }) });
    expect(limiter.used(PEER, 'a')).toBe(6);
    expect(limiter.check(PEER, { cost: 3 })).toEqual({ delay: rounded(0.5), rule: 'a' });
    limiter.update({ rules: rules({ a: { rate: 2, burst: 5 } }) });
    expect(limiter.check(PEER, { cost: 0 })).toEqual({ delay: rounded(0.5), rule: 'a' });
    expect(limiter.counts('a')).toEqual([3, 2, 0]);
    expect(limiter.answers()).toEqual([1, 2, 0]);
    limiter.at(1001);
    expect(limiter.used(PEER, 'a')).toBe(4);
  });

  test('changes units, actions, flags and warnings at once', () => {
    const limiter = subject({ a: { burst: 10 } });
    limiter.check(PEER, { cost: 8 });
    limiter.update({ rules: rules({ a: { burst: 10, unit: 1 } }) });
    expect(limiter.check(PEER, { cost: [100, 1] })).toBe('allowed');
    limiter.update({ rules: rules({ a: { burst: 10, actions: ['x'] } }) });
    expect(limiter.check(PEER, { cost: 100 })).toBe('allowed');
    expect(limiter.check(PEER, { cost: 2, action: 'x' })).toMatchObject({ rule: 'a' });
    limiter.update({ rules: rules({ a: { burst: 10, dryRun: true } }) });
    expect(limiter.check(PEER, { cost: 2 })).toBe('allowed');
    expect(limiter.counts('a')).toEqual([4, 1, 1]);
    limiter.update({ rules: rules({ a: { burst: 10, warnBelow: 0.5 } }) });
    expect(limiter.check(PEER, { cost: 1 })).toEqual({ warning: 'a' });
  });

  test('counts the time before it at the rates before it', () => {
    const limiter = subject({ a: { rate: 1 } });
    limiter.check(PEER, { cost: 100 });
    limiter.at(1010).update({ rules: rules({ a: { rate: 4 } }) });
    limiter.at(1012);
    expect(limiter.used(PEER, 'a')).toBe(100 - 10 - 8);
    limiter.at(1013).update({ rules: rules({ a: { rate: 0.5 } }) });
    limiter.at(1017);
    expect(limiter.used(PEER, 'a')).toBe(100 - 10 - 12 - 2);
    expect(limiter.check(PEER, { cost: 24 })).toBe('allowed');
    expect(limiter.check(PEER, { cost: 0.5 })).toEqual({ delay: rounded(1), rule: 'a' });
    limiter.at(1019);
    expect(limiter.used(PEER, 'a')).toBe(99);
  });

  test('lets nothing become negative in between', () => {
    const limiter = subject({ a: { rate: 1 } });
    limiter.check(PEER, { cost: 5 });
    limiter.at(1010).update({ rules: rules({ a: { rate: 2 } }) });
    limiter.at(1011);
    expect(limiter.used(PEER, 'a')).toBe(0);
  });

  test('counts also the time of a single scope, of peeks, refunds, charges and evictions', () => {
    const scopes = { address: false, server: true };
    const two = (rate: number) => ({
      ...rules({ a: { rate } }),
      all: { scope: 'server', rate, burst: 100 },
    });
    const limiter = new RuleSubject(core, { scopes, rules: two(1) });
    const charged = { address: 'charged' };
    const refunded = { address: 'refunded' };
    for (const peer of [charged, refunded]) limiter.charge(peer, { cost: 40 });
    limiter.at(1010).update({ rules: two(3) });
    limiter.at(1011);
    expect(limiter.peek({}).used).toEqual({ a: 0, all: 80 - 10 - 3 });
    limiter.charge(charged, { cost: 1 });
    limiter.refund(refunded, { cost: 1 });
    expect(limiter.used(charged, 'a')).toBe(28);
    expect(limiter.used(refunded, 'a')).toBe(26);
    expect(limiter.used({}, 'all')).toBe(67);
  });

  test('counts for each plan the time before it at the rates of that plan', () => {
    const base = rules({ a: { rate: 1 } });
    const limiter = new RuleSubject(core, {
      ...{ scopes: SCOPES, rules: base },
      plans: { gone: { a: { rate: 30 } }, paid: { a: { rate: 2 } } },
    });
    limiter.check(PEER, { cost: 100 });
    // Another index for `paid`, another rate for it, and a new plan at the index of an old one.
    limiter.at(1010).update({
      rules: base,
      plans: { paid: { a: { rate: 5 } }, fresh: { a: { rate: 7 } } },
    });
    limiter.at(1011);
    expect(limiter.used(PEER, 'a', 'paid')).toBe(100 - 20 - 5);
    expect(limiter.used(PEER, 'a', 'fresh')).toBe(100 - 10 - 7);
    expect(limiter.used(PEER, 'a')).toBe(100 - 11);
    // Plans change their places once more, and no rate changes.
    limiter.update({
      rules: base,
      plans: { x: {}, y: {}, fresh: { a: { rate: 7 } }, paid: { a: { rate: 5 } } },
    });
    expect(limiter.used(PEER, 'a', 'paid')).toBe(100 - 20 - 5);
    expect(limiter.used(PEER, 'a', 'fresh')).toBe(100 - 10 - 7);
    expect(limiter.used(PEER, 'a', 'y')).toBe(100 - 11);
    limiter.at(1012);
    expect(limiter.used(PEER, 'a', 'paid')).toBe(100 - 20 - 10);
    expect(limiter.used(PEER, 'a', 'fresh')).toBe(100 - 10 - 14);
  });

  test('moves plans without a change of rates: the time before counts as before', () => {
    const base = rules({ a: { rate: 1 } });
    const [slow, fast] = [{ a: { rate: 0.5 } }, { a: { rate: 4 } }];
    const limiter = new RuleSubject(core, {
      ...{ scopes: SCOPES, rules: base },
      plans: { slow, fast },
    });
    limiter.check(PEER, { cost: 100 });
    limiter.at(1010).update({ rules: rules({ a: { rate: 2 } }), plans: { slow, fast } });
    limiter.at(1020).update({ rules: rules({ a: { rate: 2 } }), plans: { fast, slow } });
    limiter.at(1022);
    expect(limiter.used(PEER, 'a', 'fast')).toBe(100 - 88);
    expect(limiter.used(PEER, 'a', 'slow')).toBe(100 - 11);
    expect(limiter.used(PEER, 'a')).toBe(100 - 10 - 24);
  });

  test(`remembers the last ${RATE_CHANGES} changes of rates`, () => {
    const rateOf = (n: number) => 2 ** -n;
    const limiter = subject({ a: { rate: rateOf(0) } });
    limiter.check(PEER, { cost: 100 });
    let used = 100;
    for (let n = 1; n <= RATE_CHANGES; n += 1) {
      limiter.at(1000 + n * 4).update({ rules: rules({ a: { rate: rateOf(n) } }) });
      used -= 4 * rateOf(n - 1);
      expect(limiter.used(PEER, 'a')).toBe(used);
    }
    // The same rates again are no change, nor is another burst.
    for (const burst of [100, 50, 100]) {
      limiter.update({ rules: rules({ a: { rate: rateOf(RATE_CHANGES), burst } }) });
    }
    expect(limiter.used(PEER, 'a')).toBe(used);
    // One more: the time before the second change counts at the rates between the first and the second.
    limiter.update({ rules: rules({ a: { rate: 0.25 } }) });
    expect(limiter.used(PEER, 'a')).toBe(used + 4 * (rateOf(0) - rateOf(1)));
    limiter.update({ rules: rules({ a: { rate: 0.5 } }) });
    expect(limiter.used(PEER, 'a')).toBe(
      used + 4 * (rateOf(0) - rateOf(2)) + 4 * (rateOf(1) - rateOf(2)),
    );
  });

  describe('that adds a rule', () => {
    test('lets the rule begin with nothing used, also at the same instant', () => {
      const limiter = subject({ a: { burst: 10 } });
      limiter.check(PEER, { cost: 8 });
      limiter.update({ rules: rules({ a: { burst: 10 }, b: { burst: 5 } }) });
      expect(limiter.used(PEER, 'b')).toBe(0);
      expect(limiter.used(PEER, 'a')).toBeCloseTo(8, 9);
      expect(limiter.check(PEER, { cost: 2 })).toBe('allowed');
      expect(limiter.used(PEER, 'b')).toBe(2);
      expect(limiter.check(PEER, { cost: 1 })).toEqual({ delay: rounded(1), rule: 'a' });
      expect(limiter.counts('b')).toEqual([2, 0, 0]);
    });

    test('in the place of a removed one lets it begin with nothing used and counts of 0', () => {
      const limiter = subject({ a: { burst: 10 }, b: { burst: 10 } });
      limiter.check(PEER, { cost: 8 });
      limiter.check(PEER, { cost: 8 });
      limiter.update({ rules: rules({ b: { burst: 10 } }) });
      expect(limiter.check(PEER, { cost: 0 })).toBe('allowed');
      limiter.update({ rules: rules({ c: { burst: 10 }, b: { burst: 10 } }) });
      expect(limiter.built.slots.get('c')).toBe(0);
      expect(limiter.counts('c')).toEqual([0, 0, 0]);
      expect(limiter.counts('b')).toEqual([3, 1, 0]);
      expect(limiter.used(PEER, 'c')).toBe(0);
      expect(limiter.check(PEER, { cost: 1 })).toBe('allowed');
      expect(limiter.used(PEER, 'c')).toBe(1);
      expect(limiter.used(PEER, 'b')).toBeCloseTo(9, 9);
    });

    test('in the place of a rule that it removes lets it begin with nothing used', () => {
      const limiter = subject({ a: { burst: 10, rate: 2 } });
      limiter.check(PEER, { cost: 8 });
      limiter.update({ rules: rules({ b: { burst: 10, rate: 2 } }) });
      expect(limiter.built.slots.get('b')).toBe(0);
      expect(limiter.check(PEER, { cost: 10 })).toBe('allowed');
      expect(limiter.check(PEER, { cost: 1 })).toEqual({ delay: rounded(0.5), rule: 'b' });
    });

    test('does so at one instant again and again', () => {
      const limiter = subject({ a: { burst: 10 } });
      for (let n = 0; n < 20; n += 1) {
        expect(limiter.check(PEER, { cost: 10 })).toBe('allowed');
        limiter.update({ rules: rules({ [`rule ${n}`]: { burst: 10 } }) });
      }
      expect(limiter.check(PEER, { cost: 10 })).toBe('allowed');
      limiter.at(1001);
      expect(limiter.used(PEER, 'rule 19')).toBeCloseTo(9, 9);
    });

    test('keeps what was used after it at the same instant', () => {
      const limiter = subject({ a: { burst: 10 } });
      limiter.update({ rules: rules({ a: { burst: 10 }, b: { burst: 10 } }) });
      expect(limiter.check(PEER, { cost: 6 })).toBe('allowed');
      expect(limiter.check(PEER, { cost: 4 })).toBe('allowed');
      expect(limiter.used(PEER, 'b')).toBe(10);
      expect(limiter.check(PEER, { cost: 1 })).toEqual({ delay: rounded(1), rule: 'a' });
    });

    test.each([0, 1, -1, 1e-300, -1e-300, 2 ** 60])('does so at the time %d', (now) => {
      const limiter = subject({ a: { burst: 10 } }).at(now);
      limiter.check(PEER, { cost: 8 });
      limiter.update({ rules: rules({ b: { burst: 10 } }) });
      expect(limiter.check(PEER, { cost: 10 })).toBe('allowed');
      expect(limiter.check(PEER, { cost: 1 })).toMatchObject({ rule: 'b' });
      limiter.update({ rules: rules({ b: { burst: 10 }, c: { burst: 3 } }) });
      expect(limiter.check({ address: 'new' }, { cost: 3 })).toBe('allowed');
      expect(limiter.check({ address: 'new' }, { cost: 1 })).toMatchObject({ rule: 'c' });
    });

    test('zeroes it also in records that were refilled at a later time of the clock', () => {
      const limiter = subject({ a: { burst: 10 }, b: { burst: 10 } });
      limiter.at(2000).check(PEER, { cost: 8 });
      // The clock has stepped back.
      limiter.at(1000).update({ rules: rules({ a: { burst: 10 } }) });
      limiter.update({ rules: rules({ a: { burst: 10 }, c: { burst: 20 } }) });
      expect(limiter.used(PEER, 'c')).toBe(0);
      expect(limiter.check(PEER, { cost: 2 })).toBe('allowed');
      expect(limiter.used(PEER, 'c')).toBe(2);
      expect(limiter.used(PEER, 'c')).toBe(2);
      limiter.check(PEER, { cost: 0 });
      expect(limiter.used(PEER, 'c')).toBe(2);
    });

    test('does not count the tokens of the rule that was there as not fresh', () => {
      const limiter = subject({ a: { burst: 1e6, rate: 1e-6 } }, 2);
      limiter.check(PEER, { cost: 1e6 });
      limiter.check({ address: 'other' }, { cost: 1 });
      limiter.update({ rules: rules({ b: { burst: 1e6, rate: 1e-6 } }) });
      limiter.at(1001).check({ address: 'new' });
      expect(limiter.statistics('address')).toMatchObject({ evictions: 1, lossyEvictions: 0 });
      expect(limiter.at(2000).cleanup(500)).toBe(1);
    });

    test('counts the tokens of a removed rule as nothing', () => {
      const limiter = subject({ a: { burst: 1e6, rate: 1e-6 }, b: { rate: 1 } }, 2);
      for (const address of ['peer', 'other']) limiter.check({ address }, { cost: 3 });
      limiter.update({ rules: rules({ b: { rate: 1 } }) });
      limiter.at(1004).check({ address: 'new' });
      expect(limiter.statistics('address')).toMatchObject({ evictions: 1, lossyEvictions: 0 });
      expect(limiter.at(1100).cleanup(99)).toBe(1);
    });
  });

  // A shared table has no room for so many more.
  test.skipIf(core === 'shared')(
    'grows records from 1 over 2 and 6 to 13 rules and keeps what they hold',
    () => {
      const names = Array.from({ length: 13 }, (_, n) => `rule ${n}`);
      const some = (n: number) =>
        rules(Object.fromEntries(names.slice(0, n).map((name, i) => [name, { burst: 50 + i }])));
      const limiter = new RuleSubject(core, {
        ...{ scopes: SCOPES, rules: some(1) },
        bans: { address: { violations: 2.5, withinSeconds: 1e6, seconds: [500] } },
      });
      const { bans } = limiter.built.spec as { bans: NonNullable<RulesSpec['bans']> };
      const peers = Array.from({ length: 300 }, (_, n) => ({ address: `peer-${n}` }));
      const opened = peers.map((peer) => limiter.open(peer));
      for (const peer of peers) limiter.check(peer, { cost: 10 });
      for (let n = 0; n < 2; n += 1) limiter.check({ address: 'peer-7' }, { cost: 1000 });
      limiter.ban('address', 'peer-8', 10_000);
      let checks = 1;
      for (const count of [2, 6, 13]) {
        limiter.now += 1;
        limiter.update({ rules: some(count), bans });
        limiter.now += 1;
        // Some records move, others stay as they are until later.
        for (const [n, peer] of peers.entries()) {
          if (n % 3 === 0) limiter.check(peer, { cost: 10 });
          if (n % 3 === 1 && n !== 7) opened[n]?.check({ cost: 10 });
        }
        checks += 1;
        expect(limiter.peers('address')).toBe(300);
        // The first check that took from each rule; 2 tokens drain between two checks.
        const used = names.slice(0, count).map((_, i) => {
          const since = [1, 2, 3, 3, 3, 3][i] ?? 4;
          return 10 + 8 * (checks - since);
        });
        for (const n of [0, 1, 3, 298, 300 - 3]) {
          const peeked = limiter.peek(peers[n] as { address: string }).used;
          for (const [i, expected] of used.entries()) {
            expect(peeked[names[i] as string]).toBeCloseTo(expected, 6);
          }
        }
        expect(limiter.violations('address', 'peer-7')).toBe(2);
        expect(limiter.banSecondsLeft('address', 'peer-8')).toBeCloseTo(11_000 - limiter.now, 6);
      }
      // A record that nothing has touched since the first check.
      expect(limiter.used({ address: 'peer-2' }, 'rule 0')).toBeCloseTo(4, 6);
      expect(limiter.used({ address: 'peer-2' }, 'rule 12')).toBe(0);
      expect(opened[2]?.check({ cost: 40 })).toBe('allowed');
      expect(limiter.used({ address: 'peer-2' }, 'rule 12')).toBe(40);
      expect(limiter.used({ address: 'peer-2' }, 'rule 0')).toBeCloseTo(44, 6);
      expect(limiter.check({ address: 'peer-7' }, { cost: 1000 })).toMatchObject({ ban: 500 });
      // Fewer rules again: the records stay as large as they are.
      limiter.update({ rules: some(1), bans });
      expect(limiter.peers('address')).toBe(300);
      expect(limiter.used({ address: 'peer-2' }, 'rule 0')).toBeCloseTo(44, 6);
      for (const peer of peers) limiter.removePeer('address', peer.address);
      expect(limiter.peers('address')).toBe(0);
      expect(limiter.statistics('address')).toMatchObject({ totalViolations: 0, topViolators: [] });
    },
  );

  test('grows records of a full scope, and evicts those of both sizes', () => {
    const limiter = subject({ a: { burst: 10 } }, 8);
    for (let n = 0; n < 8; n += 1) limiter.check({ address: `old-${n}` }, { cost: 10 });
    const more = rules({ a: { burst: 10 }, b: { burst: 10 }, c: { burst: 10 } });
    limiter.at(1001).update({ rules: more });
    for (let n = 0; n < 4; n += 1) limiter.at(1002).check({ address: `old-${n}` }, { cost: 1 });
    expect(limiter.peers('address')).toBe(8);
    for (let n = 0; n < 16; n += 1) {
      limiter.now += 0.25;
      expect(limiter.check({ address: `new-${n}` }, { cost: 10 })).toBe('allowed');
      expect(limiter.peers('address')).toBe(8);
    }
    expect(limiter.statistics('address').evictions).toBe(16);
    limiter.at(1100);
    expect(limiter.cleanup(50)).toBe(8);
  });

  test('of bans keeps bans in force to their ends, and levels', () => {
    const base = rules({ a: { burst: 1, rate: 1e-9 } });
    const policy = { violations: 3, withinSeconds: 1e9, seconds: [100, 200] };
    const limiter = new RuleSubject(core, {
      ...{ scopes: SCOPES, rules: base },
      bans: { address: policy },
    });
    limiter.check(PEER, { cost: 1 });
    for (let n = 0; n < 3; n += 1) limiter.check(PEER);
    limiter.check({ address: 'other' }, { cost: 1 });
    limiter.check({ address: 'other' });
    limiter.update({ rules: base });
    expect(limiter.check(PEER)).toEqual({ ban: 100, scope: 'address' });
    expect(limiter.check({ address: 'other' })).toMatchObject({ rule: 'a' });
    expect(limiter.violations('address', 'other')).toBe(2);
    limiter.at(1099);
    expect(limiter.check(PEER)).toEqual({ ban: 1, scope: 'address' });
    limiter.at(1100);
    expect(limiter.check(PEER)).toMatchObject({ rule: 'a' });
    expect(limiter.violations('address', 'peer')).toBe(4);
    // The second step of the new ladder, since one ban is remembered.
    limiter.update({
      rules: base,
      bans: { address: { ...policy, violations: 1, seconds: [5, 7] } },
    });
    expect(limiter.check(PEER)).toMatchObject({ ban: 7, rule: 'a' });
    expect(limiter.check({ address: 'other' })).toMatchObject({ ban: 5, rule: 'a' });
  });
});
