// Plans, on both engines and the model.

import { describe, expect, test } from 'vitest';
import { type RulesSpec, addressRules as rules } from './plans.js';
import { CORES, RuleSubject, rounded } from './subject.js';

const PEER = { address: 'peer' };
const SCOPES = { address: false };

describe.each(CORES)('A plan on the %s core', (core) => {
  const subject = (spec: RulesSpec) => new RuleSubject(core, spec);

  test('has rates, bursts and warnings of its own', () => {
    const limiter = subject({
      scopes: SCOPES,
      rules: rules({ messages: { rate: 1, burst: 2 } }),
      plans: {
        paid: { messages: { rate: 4, burst: 10, warnBelow: 0.3 } },
        slow: { messages: { rate: 0.5 } },
      },
    });
    const check = (plan: string, cost: number) => limiter.check(PEER, { plan, cost });
    expect(check('', 2)).toBe('allowed');
    expect(check('', 1)).toEqual({ delay: rounded(1), rule: 'messages' });
    expect(check('slow', 1)).toEqual({ delay: rounded(2), rule: 'messages' });
    expect(check('paid', 5)).toBe('allowed');
    expect(check('paid', 1)).toEqual({ warning: 'messages' });
    expect(check('paid', 3)).toEqual({ delay: rounded(0.25), rule: 'messages' });
    // Nothing is clamped if a smaller plan asks.
    expect(limiter.used(PEER, 'messages')).toBe(8);
    expect(check('', 1)).toEqual({ delay: rounded(7), rule: 'messages' });
    expect(check('', 0)).toEqual({ delay: rounded(6), rule: 'messages' });
    expect(check('paid', 2)).toEqual({ warning: 'messages' });
  });

  test('refills all the time since the last refill at its own rates', () => {
    const limiter = subject({
      scopes: SCOPES,
      rules: rules({ a: { rate: 1 }, b: { rate: 2 } }),
      plans: { paid: { a: { rate: 8 } } },
    });
    limiter.check(PEER, { cost: 50 });
    limiter.at(1002);
    expect(limiter.peek(PEER).used).toEqual({ a: 48, b: 46 });
    expect(limiter.peek(PEER, { plan: 'paid' }).used).toEqual({ a: 34, b: 46 });
    limiter.check(PEER, { cost: 0, plan: 'paid' });
    expect(limiter.peek(PEER).used).toEqual({ a: 34, b: 46 });
    limiter.at(1003).check(PEER, { cost: 0 });
    expect(limiter.peek(PEER, { plan: 'paid' }).used).toEqual({ a: 33, b: 44 });
  });

  test('asks no rule that does not apply in it, and refills that at the base rate', () => {
    const limiter = subject({
      scopes: SCOPES,
      rules: rules({ a: { rate: 2, burst: 10 }, b: { rate: 4, burst: 20 } }),
      plans: { free: { a: null }, none: { a: null, b: null } },
    });
    limiter.check(PEER, { cost: 10 });
    expect(limiter.check(PEER, { plan: 'free', cost: 10 })).toBe('allowed');
    expect(limiter.check(PEER, { plan: 'free' })).toEqual({ delay: rounded(0.25), rule: 'b' });
    expect(limiter.check(PEER, { plan: 'none', cost: 1e9 })).toBe('allowed');
    expect(limiter.counts('a')).toEqual([1, 0, 0]);
    limiter.at(1001).check(PEER, { plan: 'free', cost: 0 });
    expect(limiter.peek(PEER).used).toEqual({ a: 8, b: 16 });
    // A scope without an applying rule is not touched, so this time still counts at the rates of the next plan.
    limiter.at(1002).check(PEER, { plan: 'none' });
    expect(limiter.peers('address')).toBe(1);
    expect(limiter.peek(PEER).used).toEqual({ a: 6, b: 12 });
  });

  test('stores no record where none of its rules applies', () => {
    const limiter = subject({
      scopes: SCOPES,
      rules: rules({ a: {} }),
      plans: { none: { a: null } },
    });
    expect(limiter.check(PEER, { plan: 'none', cost: 5 })).toBe('allowed');
    limiter.charge(PEER, { plan: 'none', cost: 5 });
    expect(limiter.peers('address')).toBe(0);
    limiter.ban('address', 'peer', 10);
    expect(limiter.check(PEER, { plan: 'none' })).toEqual({ ban: 10, scope: 'address' });
  });

  test('works as the last of 255', () => {
    const plans = Object.fromEntries(
      Array.from({ length: 255 }, (_, n) => [`plan-${n}`, { a: { burst: n + 1, rate: n + 1 } }]),
    );
    const limiter = subject({
      scopes: SCOPES,
      rules: rules({ a: { actions: ['x', 'y'] } }),
      plans,
    });
    for (const n of [0, 100, 254]) {
      const peer = { address: `${n}` };
      const options = { plan: `plan-${n}`, action: 'y' };
      expect(limiter.check(peer, { ...options, cost: n + 1 })).toBe('allowed');
      expect(limiter.check(peer, options)).toEqual({ delay: rounded(1 / (n + 1)), rule: 'a' });
      expect(limiter.check(peer, { ...options, action: '' })).toBe('allowed');
    }
  });
});
