// The contract of one rule, and of what there is beside checks, sentence by sentence, on both engines and the model.

import { describe, expect, test } from 'vitest';
import { AT_COSTS, MAX_USED, RULE_DELAYED, RULE_NUMBERS } from '../../dist/engine/rules.js';
import type { RulesSpec } from './plans.js';
import { type CallOptions, CORES, RuleSubject, rounded, type Verdict } from './subject.js';

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

type Row = readonly [now: number, cost: number, verdict: Verdict | 'delayed', used?: number];

describe.each(CORES)('A rule of the %s core', (core) => {
  const subject = (spec: RulesSpec, maxPeers?: number) => new RuleSubject(core, spec, maxPeers);

  /** Checks one peer of one rule: costs and answers, then the used tokens. */
  const run = (rate: number, burst: number, rows: readonly Row[], options: CallOptions = {}) => {
    const limiter = subject(rules({ messages: { rate, burst } }));
    for (const [n, [now, cost, verdict, used]] of rows.entries()) {
      const got = limiter.at(now).check(PEER, { ...options, cost });
      const shown = verdict === 'delayed' && typeof got === 'object' && 'delay' in got;
      expect({ n, now, cost, verdict: shown ? 'delayed' : got }).toEqual({ n, now, cost, verdict });
      if (used !== undefined)
        expect({ n, used: limiter.used(PEER, 'messages') }).toEqual({ n, used });
    }
  };
  const delay = (seconds: number, rule = 'messages') => ({ delay: rounded(seconds), rule });

  test('admits exactly its burst at one instant', () => {
    run(1, 3, [
      [1000, 1, 'allowed', 1],
      [1000, 1, 'allowed', 2],
      [1000, 1, 'allowed', 3],
      [1000, 1, delay(1), 3],
      [1000, 2, delay(2), 3],
      [1000, 3, delay(3), 3],
    ]);
    run(0.1, 0.3, [
      [1000, 0.1, 'allowed', 0.1],
      [1000, 0.1, 'allowed', 0.2],
      // The sum is above 0.3 in doubles.
      [1000, 0.1, { delay: rounded((0.2 + 0.1 - 0.3) / 0.1), rule: 'messages' }, 0.2],
    ]);
  });

  test('admits a burst of integers exactly, however large', () => {
    const limiter = subject(rules({ bytes: { rate: 1000, burst: 2 ** 50 } }));
    const costs = [2 ** 49, 2 ** 48, 2 ** 48 - 5, 1, 1, 1, 1];
    for (const cost of costs) expect(limiter.check(PEER, { cost })).toBe('allowed');
    expect(limiter.used(PEER, 'bytes')).toBe(2 ** 50 - 1);
    expect(limiter.check(PEER, { cost: 2 })).toEqual(delay(1 / 1000, 'bytes'));
    expect(limiter.check(PEER)).toBe('allowed');
    expect(limiter.check(PEER)).toEqual(delay(1 / 1000, 'bytes'));
  });

  test('refills at its rate, at most until nothing is used', () => {
    run(2, 10, [
      [1000, 10, 'allowed', 10],
      [1001, 0, 'allowed', 8],
      [1001.5, 3, 'allowed', 10],
      [1002, 2, delay(0.5), 9],
      [1002.5, 2, 'allowed', 10],
      [1100, 0, 'allowed', 0],
      [1100, 11, { delay: Infinity, rule: 'messages' }, 0],
      [1100, 10, 'allowed', 10],
    ]);
  });

  test('refills with one multiplication and one subtraction', () => {
    const rate = 1 / 3;
    const used = 0.7 - (1000.3 - 1000.1) * rate;
    run(rate, 1, [
      [1000.1, 0.7, 'allowed', 0.7],
      [1000.3, 0.1, 'allowed', used + 0.1],
      [1000.3, 0.9, delay((used + 0.1 + 0.9 - 1) / rate), used + 0.1],
    ]);
  });

  test('also refills for a refused check', () => {
    run(1, 4, [
      [1000, 4, 'allowed', 4],
      [1001, 2, delay(1), 3],
      [1001.5, 2, delay(0.5), 2.5],
      [1002, 2, 'allowed', 4],
    ]);
  });

  test('rounds a delay up to a multiple of 2^-20 seconds and adds one', () => {
    const step = 2 ** -20;
    const cases: [rate: number, used: number, cost: number, delay: number][] = [
      [1, 1, 1, 1 + step],
      [2, 1, 1, 0.5 + step],
      [4, 1, 0.5, 0.125 + step],
      [3, 1, 1, Math.ceil(2 ** 20 / 3) * step + step],
      [1e6, 1, 1, 3 * step],
      [1e9, 1, 1, 2 * step],
      [1e-9, 1, 1, rounded(1 / 1e-9)],
      // Too long for a multiple.
      [2 ** -1010, 1, 1, 2 ** 1010],
      [1e-320, 1, 1, 1 / 1e-320],
    ];
    for (const [rate, used, cost, seconds] of cases) {
      run(rate, 1, [
        [1000, used, 'allowed'],
        [1000, cost, { delay: seconds, rule: 'messages' }],
      ]);
    }
  });

  test.each([0.001, 1 / 3, 0.7, 1, 3, 7.77, 1000, 123_456.7])(
    'at %d per second allows after the delay that it gives',
    (rate) => {
      for (const start of [0, 0.1, 1000, 1_000_000.3, 2 ** 31 + 0.7]) {
        // A limiter each: in a shared table the time of one peer may be that of another, and must not step back.
        const limiter = subject(rules({ messages: { rate, burst: 5 } }));
        const peer = { address: 'peer' };
        limiter.at(start).check(peer, { cost: 5 });
        for (const cost of [1, 0.3, 5, 2.5]) {
          const refused = limiter.check(peer, { cost });
          if (typeof refused !== 'object' || !('delay' in refused)) throw new Error('allowed');
          limiter.now += refused.delay;
          expect(limiter.check(peer, { cost })).toBe('allowed');
          limiter.charge(peer, { cost: 5 - limiter.used(peer, 'messages') });
        }
      }
    },
  );

  test('with a cost above its burst gives an infinite delay', () => {
    run(1, 5, [
      [1000, 5.000001, { delay: Infinity, rule: 'messages' }],
      [1000, 1e300, { delay: Infinity, rule: 'messages' }, 0],
      [1000, 5, 'allowed'],
    ]);
  });

  test('allows a cost of 0 unless more than its burst is used', () => {
    const limiter = subject(rules({ messages: { rate: 1, burst: 2 } }));
    expect(limiter.check(PEER, { cost: 0 })).toBe('allowed');
    limiter.check(PEER, { cost: 2 });
    expect(limiter.check(PEER, { cost: 0 })).toBe('allowed');
    limiter.charge(PEER, { cost: 3 });
    expect(limiter.check(PEER, { cost: 0 })).toEqual(delay(3));
    limiter.now += 2;
    expect(limiter.check(PEER, { cost: 0 })).toEqual(delay(1));
    limiter.now += 1;
    expect(limiter.check(PEER, { cost: 0 })).toBe('allowed');
    expect(limiter.check(PEER)).toEqual(delay(1));
  });

  test('does not refill while the clock steps back, and not twice for the same time', () => {
    run(1, 10, [
      [1000, 10, 'allowed', 10],
      [900, 1, delay(1), 10],
      [999, 1, delay(1), 10],
      [1000, 1, delay(1), 10],
      [1002, 1, 'allowed', 9],
      [1001, 1, 'allowed', 10],
      [1002, 1, delay(1), 10],
      [1003, 1, 'allowed', 10],
    ]);
  });

  test('works at any time of a clock', () => {
    // The machine's clock, which shared tables have, begins at 0.
    const before = core === 'shared' ? [] : [-1e9, -5];
    for (const start of [...before, 0, 2 ** 40]) {
      run(1, 2, [
        [start, 2, 'allowed', 2],
        [start + 1, 1, 'allowed', 2],
        [start + 1, 1, delay(1), 2],
      ]);
    }
  });

  test('reads the own clock of the engine without a time', () => {
    const { core: limiter } = subject(rules({ messages: { rate: 1e-9, burst: 1 } }));
    const check = () => {
      RULE_NUMBERS.fill(0);
      RULE_NUMBERS[AT_COSTS] = 1;
      return limiter.check(['peer'], 1, 0);
    };
    expect(check()).toBe(undefined);
    expect(check()).toBe(RULE_DELAYED);
  });

  test('belongs to one key: keys do not share tokens', () => {
    const limiter = subject(rules({ messages: {} }));
    for (const key of ['a', 'b', 'c']) {
      expect(limiter.check({ address: key })).toBe('allowed');
      expect(limiter.check({ address: key })).toEqual(delay(1));
    }
  });

  describe('saturates', () => {
    test('at 2^53 used tokens', () => {
      const limiter = subject(rules({ bytes: { rate: 1, burst: 2 ** 52 } }));
      limiter.charge(PEER, { cost: 2 ** 53 - 1 });
      expect(limiter.used(PEER, 'bytes')).toBe(2 ** 53 - 1);
      limiter.charge(PEER, { cost: 1 });
      expect(limiter.used(PEER, 'bytes')).toBe(MAX_USED);
      for (const cost of [1, 2, 1e20, Number.MAX_VALUE]) {
        limiter.charge(PEER, { cost });
        expect(limiter.used(PEER, 'bytes')).toBe(MAX_USED);
      }
      expect(limiter.check(PEER, { cost: 0 })).toEqual(delay(2 ** 52, 'bytes'));
      limiter.now += 2 ** 52;
      expect(limiter.check(PEER, { cost: 0 })).toBe('allowed');
    });

    test('with an allowed check of a huge burst', () => {
      const limiter = subject(rules({ bytes: { rate: 1, burst: 1e300 } }));
      expect(limiter.check(PEER, { cost: 1e299 })).toBe('allowed');
      expect(limiter.used(PEER, 'bytes')).toBe(MAX_USED);
    });
  });
});

describe.each(CORES)('Outside of checks the %s core', (core) => {
  const subject = (spec: RulesSpec, maxPeers?: number) => new RuleSubject(core, spec, maxPeers);
  const spec = rules({
    messages: { rate: 2, burst: 4, warnBelow: 0.5 },
    bytes: { rate: 10, burst: 100, unit: 1 },
    dry: { rate: 1, burst: 1, dryRun: true },
  });

  test('peeks at the verdict and the used tokens of a moment and changes nothing', () => {
    const limiter = subject({
      ...spec,
      bans: { address: { violations: 1, withinSeconds: 1, seconds: [60] } },
    });
    expect(limiter.peek(PEER)).toEqual({
      verdict: 'allowed',
      used: { messages: 0, bytes: 0, dry: 0 },
    });
    expect(limiter.peers('address')).toBe(0);
    limiter.check(PEER, { cost: [1, 60] });
    expect(limiter.peek(PEER, { cost: 2 }).verdict).toEqual({ warning: 'messages' });
    const { used } = limiter.at(1000.25).peek(PEER, { cost: 2 });
    expect(used).toEqual({ messages: 0.5, bytes: 57.5, dry: 0.75 });
    // Not yet a ban, although the check would begin one.
    const refused = { delay: rounded(0.25), rule: 'messages' };
    for (let n = 0; n < 3; n += 1) expect(limiter.peek(PEER, { cost: 4 }).verdict).toEqual(refused);
    expect(limiter.violations('address', 'peer')).toBe(0);
    expect(limiter.counts('messages')).toEqual([1, 0, 0]);
    expect(limiter.counts('dry')).toEqual([1, 0, 0]);
    expect(limiter.answers()).toEqual([1, 0, 0]);
    expect(limiter.check(PEER, { cost: 4 })).toMatchObject({ ban: 60 });
    limiter.now += 1;
    expect(limiter.peek(PEER, { cost: 4 })).toEqual({
      verdict: { ban: 59, scope: 'address' },
      used: { messages: 0, bytes: 47.5, dry: 0 },
    });
  });

  test('peeks without refilling the record', () => {
    const limiter = subject(rules({ messages: { rate: 1 / 3, burst: 1 } }));
    limiter.at(1000.1).check(PEER, { cost: 0.9 });
    for (const now of [1000.2, 1000.3, 1000.7]) limiter.at(now).peek(PEER);
    limiter.at(1000.9);
    expect(limiter.used(PEER, 'messages')).toBe(0.9 - (1000.9 - 1000.1) * (1 / 3));
  });

  test('refunds after a refill, at most until nothing is used', () => {
    const limiter = subject(spec);
    limiter.refund(PEER, { cost: [1, 50] });
    expect(limiter.peers('address')).toBe(0);
    limiter.check(PEER, { cost: [4, 100] });
    limiter.at(1001).refund(PEER, { cost: [1, 20] });
    expect(limiter.peek(PEER).used).toEqual({ messages: 1, bytes: 70, dry: 0 });
    limiter.refund(PEER, { cost: [100, 20] });
    expect(limiter.peek(PEER).used).toEqual({ messages: 0, bytes: 50, dry: 0 });
    expect(limiter.counts('messages')).toEqual([1, 0, 0]);
  });

  test('charges without asking, also below zero tokens', () => {
    const limiter = subject(spec);
    limiter.charge(PEER, { cost: [5, 10] });
    expect(limiter.peers('address')).toBe(1);
    limiter.at(1001).charge(PEER, { cost: [5, 10] });
    expect(limiter.peek(PEER).used).toEqual({ messages: 8, bytes: 10, dry: 0 });
    expect(limiter.check(PEER)).toEqual({ delay: rounded(2.5), rule: 'messages' });
    expect(limiter.counts('messages')).toEqual([1, 1, 0]);
    expect(limiter.answers()).toEqual([0, 1, 0]);
    expect(limiter.violations('address', 'peer')).toBe(1);
  });

  test('charges and refunds the rules of the action and the plan', () => {
    const limiter = subject({
      ...rules({ all: { burst: 10 }, events: { burst: 10, actions: ['event'] } }),
      plans: { free: { all: null } },
    });
    limiter.charge(PEER, { cost: 2 });
    limiter.charge(PEER, { cost: 3, action: 'event' });
    limiter.charge(PEER, { cost: 4, action: 'event', plan: 'free' });
    expect(limiter.peek(PEER).used).toEqual({ all: 5, events: 7 });
    limiter.refund(PEER, { cost: 1, action: 'event', plan: 'free' });
    limiter.refund(PEER, { cost: 2 });
    expect(limiter.peek(PEER).used).toEqual({ all: 3, events: 6 });
    limiter.charge(PEER, { cost: 1, plan: 'free' });
    expect(limiter.peek(PEER).used).toEqual({ all: 3, events: 6 });
  });

  test('charges and refunds during a ban', () => {
    const limiter = subject(spec);
    limiter.ban('address', 'peer', 100);
    limiter.charge(PEER, { cost: 3 });
    expect(limiter.used(PEER, 'messages')).toBe(3);
    limiter.refund(PEER, { cost: 1 });
    expect(limiter.used(PEER, 'messages')).toBe(2);
  });

  test('clears everything but the totals', () => {
    const limiter = subject({ ...spec, scopes: { address: false, server: true } });
    limiter.check(PEER, { cost: 4 });
    limiter.check(PEER);
    limiter.ban('address', 'other', Infinity);
    limiter.core.clear();
    expect(limiter.peers('address')).toBe(0);
    expect(limiter.violations('address', 'peer')).toBe(0);
    expect(limiter.longestBans('address')).toEqual({ count: 0, bans: [] });
    expect(limiter.statistics('address')).toMatchObject({ topViolators: [], totalViolations: 0 });
    expect(limiter.check(PEER, { cost: 2 })).toBe('allowed');
    expect(limiter.check({ address: 'other' })).toBe('allowed');
    expect(limiter.counts('messages')).toEqual([4, 1, 0]);
    expect(limiter.answers()).toEqual([3, 1, 0]);
  });
});
