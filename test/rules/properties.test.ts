// What must hold for every RuleLimiter, whatever its rules are and whatever is asked of it. fast-check looks for a
// counterexample, makes it small, and prints its seed and path.

import fc from 'fast-check';
import { type Keys, type Rule, RuleLimiter, type RuleNumbers } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES, manualClock } from '../support/limiters.js';
import { runs } from '../support/runs.js';
import {
  ALL_KINDS,
  appliesTo,
  books,
  bursts,
  calls,
  costs,
  EXACT,
  KEYS,
  numbers,
  numbersOf,
  type Rules,
  rates,
  rules,
  SCOPES,
  Subject,
  steps,
  withUnits,
} from './books.js';
import { Ledger } from './ledger.js';

const RUNS = runs(75);
const BANS = {
  peer: { violations: 3, withinSeconds: 60, seconds: [5, 50] },
  account: { violations: 2, withinSeconds: 5, seconds: 1 },
};
/** As many rules as the scopes can have: rules that replace these are stored in the places of others. */
const FULL_SCOPES: Rules = Object.fromEntries(
  Object.keys(SCOPES).flatMap((scope) => {
    const most = scope === 'server' ? 11 : 13;
    return Array.from({ length: most }, (_, n) => [`${scope} ${n}`, { scope, rateLimit: 1 }]);
  }),
);
const STARTS = fc.constantFrom(0, 1_000_000, 1_764_000_000);

function onDryRun(book: Rules): Rules {
  return Object.fromEntries(
    Object.entries(book).map(([name, rule]) => [`dry ${name}`, { ...rule, dryRun: true }]),
  );
}

describe.each(ENGINES)('A RuleLimiter on the %s engine', (engine) => {
  test('changes no bucket with a refusal', () => {
    const property = fc.property(
      books(),
      calls(undefined, ALL_KINDS),
      fc.boolean(),
      (book, history, bans) => {
        const clock = manualClock();
        const subject = new Subject(engine, clock, book, bans ? { bans: BANS } : {});
        for (const { step, ...call } of history) {
          clock.now += step;
          const before = subject.buckets();
          const verdict = subject.makeNow(call);
          if (verdict === undefined || verdict.outcome === 'allow') continue;
          expect(subject.buckets()).toEqual(before);
        }
      },
    );
    fc.assert(property, RUNS);
  });

  test('never admits more than burst + rate x T over any interval', () => {
    const back = fc.oneof({ weight: 5, arbitrary: steps() }, numbers(-20, 0));
    const property = fc.property(
      books(),
      calls(),
      fc.array(back, { minLength: 50, maxLength: 50 }),
      (book, history, steps) => {
        const clock = manualClock();
        const subject = new Subject(engine, clock, book);
        const ledgers = new Map<string, Ledger>();
        history.forEach((call, n) => {
          const { keys, cost, action } = call;
          const verdict = subject.make({ ...call, step: steps[n] as number });
          for (const ledger of ledgers.values()) ledger.pass(clock.now);
          for (const [name, rule] of Object.entries(book)) {
            const isKeyed = rule.scope === 'server' || keys[rule.scope] !== undefined;
            if (!isKeyed || !appliesTo(rule, action)) continue;
            const of = `${name} of ${keys[rule.scope]}`;
            const ledger = ledgers.get(of) ?? new Ledger();
            ledgers.set(of, ledger);
            const taken = verdict?.outcome === 'allow' ? cost[rule.unit as 'bytes'] : 0;
            ledger.add(clock.now, numbersOf(rule), taken);
            expect(ledger.exceeded()).toBeUndefined();
          }
        });
      },
    );
    fc.assert(property, RUNS);
  });

  test('allows a check at exactly the end of its delay, for all rules and scopes at once', () => {
    const property = fc.property(
      books(),
      calls(undefined, ALL_KINDS),
      STARTS,
      numbers(0, 1000),
      (book, history, start, debt) => {
        const clock = manualClock(start);
        const subject = new Subject(engine, clock, book);
        for (const [n, keys] of KEYS.entries()) {
          if (n % 2 === 0) subject.limiter.charge(keys, { requests: debt, bytes: debt }, 'a');
        }
        for (const call of history) {
          const verdict = subject.make(call);
          if (verdict === undefined || verdict.outcome === 'allow') continue;
          const { delaySeconds } = verdict;
          const exceeds = ([, rule]: [string, Rule]) =>
            appliesTo(rule, call.action) &&
            (rule.scope === 'server' || call.keys[rule.scope] !== undefined) &&
            call.cost[rule.unit as 'bytes'] > numbersOf(rule).burst;
          expect(delaySeconds === Infinity).toBe(Object.entries(book).some(exceeds));
          if (delaySeconds === Infinity) continue;
          const again = subject.make({ ...call, step: delaySeconds });
          expect(again?.outcome).toBe('allow');
        }
      },
    );
    fc.assert(property, RUNS);
  });

  // Exact numbers: a rule on dry run refills at other moments, which may change the last bit of other numbers.
  test('gives the same verdicts with and without rules on dry run', () => {
    const property = fc.property(
      books(EXACT),
      books(EXACT),
      calls(EXACT, ALL_KINDS),
      fc.boolean(),
      (book, tried, history, isBanning) => {
        const options = isBanning ? { bans: BANS } : {};
        const [clock, otherClock] = [manualClock(), manualClock()];
        const without = new Subject(engine, clock, book, options);
        const dry = new Subject(engine, otherClock, { ...onDryRun(tried), ...book }, options);
        for (const call of history) expect(dry.make(call)).toEqual(without.make(call));
      },
    );
    fc.assert(property, RUNS);
  });

  test('keeps the used tokens of each rule in an update, and drains them at the rates before it', () => {
    const touch = fc.record({ is: fc.constant('touch' as const), cost: costs(EXACT) });
    const wait = fc.record({ is: fc.constant('wait' as const), step: steps(EXACT) });
    const change = fc.record({
      is: fc.constant('update' as const),
      name: fc.constantFrom(...Array.from({ length: 6 }, (_, n) => `rule ${n}`)),
      rule: fc.option(rules(EXACT), { nil: undefined }),
    });
    const acts = fc.array(fc.oneof(touch, wait, change), { maxLength: 40, size: 'max' });
    const keys = KEYS[1] as Keys;
    const property = fc.property(books(EXACT), acts, fc.boolean(), (first, acts, isReusing) => {
      const clock = manualClock();
      const subject = new Subject(engine, clock, isReusing ? FULL_SCOPES : first);
      subject.limiter.update({ rules: withUnits(first) });
      let book = first;
      let used = new Map<string, number>();
      const drain = (seconds: number) => {
        for (const [name, tokens] of used) {
          const { rate } = numbersOf(book[name] as Rule);
          used.set(name, Math.max(0, tokens - seconds * rate));
        }
      };
      const read = () => {
        const left = subject.buckets([keys]);
        return new Map(
          Object.entries(book).map(([name, rule]) => {
            const { burst } = numbersOf(rule);
            return [name, burst - (left.get(`${name} of ${keys[rule.scope]}`) as number)];
          }),
        );
      };
      let updates = 0;
      const touchAll = (cost: Record<string, number>) => {
        updates = 0;
        for (const action of [undefined, 'a', 'b'])
          subject.limiter.charge(keys, { requests: 0, bytes: 0, ...cost }, action);
      };
      for (const act of acts) {
        if (act.is === 'touch') {
          touchAll(act.cost);
          used = read();
        } else if (act.is === 'wait') {
          clock.now += act.step;
          drain(act.step);
        } else {
          // An engine remembers eight changes of rates since the last refill.
          if (updates === 8) touchAll({});
          updates += 1;
          const { [act.name]: before, ...others } = book;
          book = act.rule === undefined ? others : { ...others, [act.name]: act.rule };
          subject.limiter.update({ rules: withUnits(book) });
          if (act.rule === undefined || before?.scope !== act.rule.scope) used.delete(act.name);
        }
        const found = read();
        for (const [name, tokens] of found) {
          // An update that reuses a place of a record counts as the smallest step of time.
          expect(Math.abs(tokens - (used.get(name) ?? 0))).toBeLessThan(1e-5);
        }
      }
    });
    fc.assert(property, RUNS);
  });

  test('admits exactly n checks of a burst of n', () => {
    const most = fc.oneof(
      fc.constant(1),
      fc.integer({ min: 1, max: 300 }),
      fc.constant(Number.MAX_SAFE_INTEGER),
    );
    const property = fc.property(
      most,
      fc.array(fc.integer({ min: 0, max: 50 }), { maxLength: 60 }),
      rates(),
      steps(),
      (n, costs, rateLimit, step) => {
        const clock = manualClock();
        const messages = { scope: 'peer', rateLimit, burstLimit: n };
        const large = { scope: 'account', rateLimit: 1, burstLimit: Number.MAX_SAFE_INTEGER };
        const subject = new Subject(engine, clock, { messages, large });
        const keys = { peer: 'p', account: 'a' };
        let left = n;
        if (n > 300) {
          left = 200;
          subject.limiter.charge(keys, n - left);
        }
        clock.now -= step;
        for (const cost of costs) {
          const isAllowed = subject.limiter.check(keys, cost).outcome === 'allow';
          expect(isAllowed).toBe(cost <= left);
          if (isAllowed) left -= cost;
        }
        for (; left > 0; left -= 1) expect(subject.limiter.check(keys).outcome).toBe('allow');
        expect(subject.limiter.check(keys).outcome).toBe('delay');
        expect(subject.limiter.check(keys, 0).outcome).toBe('allow');
      },
    );
    fc.assert(property, RUNS);
  });

  test('refills a client that polls every 0.1 ms as one that waits', () => {
    const property = fc.property(
      rates(),
      bursts(),
      numbers(0, 100),
      fc.boolean(),
      fc.integer({ min: 1, max: 2000 }),
      (rateLimit, burstLimit, debt, isOpened, polls) => {
        const clock = manualClock();
        const messages = { scope: 'peer', rateLimit, burstLimit };
        // Polls ask for more than a full bucket: each is refused.
        const { limiter } = new Subject(engine, clock, { messages });
        for (const peer of ['polls', 'waits']) limiter.charge({ peer }, burstLimit + debt);
        const opened = limiter.open({ peer: 'polls' });
        for (let n = 0; n < polls; n += 1) {
          clock.now += 1e-4;
          if (isOpened) opened.check(burstLimit + 1);
          else limiter.check({ peer: 'polls' }, burstLimit + 1);
        }
        const left = (peer: string) => limiter.peek({ peer }).rules[0]?.remaining as number;
        expect(Math.abs(left('polls') - left('waits'))).toBeLessThan(1e-9);
      },
    );
    fc.assert(property, runs(50));
  });

  test('answers opened peers as their keys', () => {
    type Other = { readonly kind: 'update' | 'remove' | 'clear' | 'cleanup' | 'restart' };
    const other = fc.record({
      kind: fc.constantFrom<Other['kind']>('update', 'remove', 'clear', 'cleanup', 'restart'),
      keys: fc.constantFrom(...KEYS),
      book: books(),
    });
    const acts = calls(undefined, ALL_KINDS).chain((history) =>
      fc.array(other, { maxLength: 8 }).map((others) => ({ history, others })),
    );
    const property = fc.property(books(), acts, (book, { history, others }) => {
      const [clock, otherClock] = [manualClock(), manualClock()];
      const restored = new Subject(engine, manualClock(), book);
      restored.limiter.charge({ peer: 'another', account: 'another' }, 1e6);
      const saved = restored.limiter.snapshot();
      const byKey = new Subject(engine, clock, book, { bans: BANS });
      const opened = new Subject(engine, otherClock, book, { bans: BANS });
      history.forEach((call, n) => {
        const said = opened.make({ ...call, isOpened: true });
        expect(said).toEqual(byKey.make({ ...call, isOpened: false }));
        const other = others[(n * others.length) / history.length];
        if (other === undefined) return;
        for (const { limiter } of [byKey, opened]) {
          if (other.kind === 'update') limiter.update({ rules: withUnits(other.book) });
          else if (other.kind === 'remove') limiter.removePeer(other.keys);
          else if (other.kind === 'clear') limiter.clear();
          else if (other.kind === 'cleanup') limiter.cleanup(0);
          else {
            // The limiter takes the secret of the snapshot: slots from before are out of date.
            limiter.clear();
            limiter.restore(saved);
          }
        }
      });
      expect(opened.buckets()).toEqual(byKey.buckets());
      expect(opened.limiter.getStats().outcomes).toEqual(byKey.limiter.getStats().outcomes);
    });
    fc.assert(property, RUNS);
  });

  test('touches no bucket of a peer that is on a list or banned', () => {
    const lists = { allow: { account: ['own'] }, deny: { peer: ['p1'] } };
    const property = fc.property(
      books(),
      books(),
      calls(undefined, ALL_KINDS),
      calls(undefined, ALL_KINDS),
      (book, tried, before, history) => {
        const clock = manualClock();
        const subject = new Subject(engine, clock, { ...book, ...onDryRun(tried) });
        for (const call of before) subject.make(call);
        subject.limiter.update(lists);
        for (const key of ['p0', 'p3']) subject.limiter.ban('peer', key, 1e6);
        for (const { step, ...call } of history) {
          clock.now += Math.min(step, 10);
          const isAllowed = call.keys['account'] === 'own';
          // Charges and refunds do not ask for bans and deny lists.
          if (call.kind !== 'check' && !isAllowed) continue;
          const buckets = subject.buckets();
          const verdict = subject.makeNow(call);
          if (call.keys['peer'] === KEYS[2]?.['peer']) continue;
          const outcome = isAllowed ? 'allow' : call.keys['peer'] === 'p1' ? 'denied' : 'banned';
          if (call.kind === 'check') expect(verdict?.outcome).toBe(outcome);
          expect(subject.buckets()).toEqual(buckets);
        }
      },
    );
    fc.assert(property, RUNS);
  });

  test('never admits more than the largest plan that asked', () => {
    const scale: fc.Arbitrary<RuleNumbers> = fc.record({
      rateLimit: rates(),
      burstLimit: bursts(),
    });
    const plan = fc.option(scale, { nil: null });
    const asks = fc.array(
      fc.record({
        step: steps(),
        plan: fc.constantFrom(undefined, 'small', 'large'),
        cost: fc.oneof(fc.constant(1), numbers(0, 22)),
      }),
      { maxLength: 60, size: 'max' },
    );
    const property = fc.property(scale, plan, plan, asks, (base, small, large, asks) => {
      const clock = manualClock();
      const limiter = new RuleLimiter({
        ...{ engine, clock, scopes: SCOPES },
        rules: {
          messages: { scope: 'peer', ...base },
          unlimited: { scope: 'peer', rateLimit: 1e9 },
        },
        plans: { small: { messages: small }, large: { messages: large } },
      });
      const ledger = new Ledger();
      for (const { step, plan, cost } of asks) {
        clock.now += step;
        const own = plan === undefined ? base : plan === 'small' ? small : large;
        const { outcome } = limiter.check({ peer: 'p' }, cost, undefined, plan);
        if (own === null) {
          // The rule does not apply, and is refilled at the rate of the base rules.
          expect(outcome).toBe('allow');
          ledger.add(clock.now, { rate: numbersOf(base).rate, burst: 0 }, 0);
        } else {
          ledger.add(clock.now, numbersOf(own), outcome === 'allow' ? cost : 0);
        }
        expect(ledger.exceeded()).toBeUndefined();
      }
    });
    fc.assert(property, RUNS);
  });
});
