// RulesCore.look returns what peek returns, and an allowed check leaves the used tokens that look then finds, on both
// engines and by random checks.

import { RuleLimiter } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import {
  AT_DELAY,
  AT_RULE,
  AT_SCOPE,
  AT_USED,
  MAX_RULES,
  RULE_NUMBERS,
} from '../../dist/engine/rules.js';
import type { RulesCore } from '../../lib/engine/rules.js';
import type { LimiterContext } from '../../lib/rules/limiter-context.js';
import { ENGINES, manualClock } from '../support/limiters.js';
import { seeded } from '../support/random.js';

describe.each(ENGINES)('look of the %s engine', (engine) => {
  test('returns the answer, the delay and the used tokens of peek, and the used tokens that a check has left', () => {
    const clock = manualClock();
    const random = seeded(7);
    const limiter = new RuleLimiter({
      engine,
      clock,
      scopes: {
        address: { kind: 'address' },
        network: { from: 'address', ipv4Subnet: 24 },
        account: {},
        all: { single: true },
      },
      rules: {
        few: { scope: 'address', quota: 4, windowSeconds: 10 },
        bytes: { scope: 'address', unit: 'bytes', quota: 100, windowSeconds: 5 },
        net: { scope: 'network', quota: 9, windowSeconds: 7, warnBelow: 0.3 },
        login: { scope: 'account', action: 'login', quota: 2, windowSeconds: 9 },
        every: { scope: 'all', rateLimit: 3, burstLimit: 20 },
      },
      plans: { paid: { few: { quota: 8 }, bytes: null } },
      bans: { address: { violations: 2, withinSeconds: 20, seconds: 3 } },
    });
    const { context, core } = limiter as unknown as {
      context: LimiterContext;
      core: RulesCore;
    };
    const results: string[] = [];
    for (let n = 0; n < 2000; n += 1) {
      clock.now += random() / 2;
      const keys = {
        ...(random() < 0.8 ? { address: `192.0.${random.below(2)}.${random.below(3)}` } : {}),
        ...(random() < 0.5 ? { account: `user${random.below(3)}` } : {}),
      };
      const cost = { requests: random.below(3), bytes: random.below(60) };
      const action = random() < 0.5 ? 'login' : undefined;
      const plan = random() < 0.3 ? 'paid' : undefined;
      const ask = (method: 'look' | 'peek') => {
        const call = context.prepare(keys, cost, action, plan);
        const { mask, program } = call;
        const applies = context.book.rules.filter(({ spec, slot }) => {
          const { plan: numbers } = context.book;
          const at = program * context.scopes.length + spec.scope;
          return (mask >> spec.scope) & ((numbers.applies[at] as number) >> slot) & 1;
        });
        const answer = core[method](call.keys, mask, program, clock.now);
        const isPeek = typeof answer === 'object';
        const used = isPeek ? answer.used : RULE_NUMBERS.slice(AT_USED);
        const refusal = [AT_DELAY, AT_RULE, AT_SCOPE].map((at) => RULE_NUMBERS[at]);
        const found = isPeek ? answer.answer : answer;
        context.release(call);
        const left = applies.map(({ id }) => used[id]);
        return [found, found === undefined ? [] : refusal, left, applies] as const;
      };
      const [looked, peeked] = [ask('look'), ask('peek')];
      expect(looked).toEqual(peeked);
      RULE_NUMBERS.fill(Number.NaN, AT_USED);
      const isOpened = random() < 0.5;
      const verdict = isOpened
        ? limiter.open(keys, plan).check(cost, action)
        : limiter.check(keys, cost, action, plan);
      results.push(verdict.outcome);
      if (verdict.outcome !== 'allow') continue;
      const after = looked[3].map(({ id }) => RULE_NUMBERS[AT_USED + id]);
      expect(after).toEqual(ask('look')[2]);
    }
    expect(new Set(results)).toEqual(new Set(['allow', 'delay', 'banned']));
    expect(RULE_NUMBERS.length).toBe(AT_USED + 8 * MAX_RULES);
  });
});
