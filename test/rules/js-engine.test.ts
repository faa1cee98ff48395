// The TypeScript engine of the rule limiter where it can fail half-way: a Map that takes no more, at each of its new
// entries in turn, and the end of the stack. A call that throws changes nothing, and every count stays right.

import { setFlagsFromString } from 'node:v8';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { JsRuleLimiter } from '../../lib/engine/js/rules/limiter.js';
import {
  MAX_RULES,
  RULE_BANNED,
  RULE_DELAYED,
  RULE_DIGEST_NUMBERS,
  RULE_NO_ROOM,
  RULE_NUMBERS,
  RULE_OFFENDER_NUMBERS,
  type RuleKeys,
  type RulePlan,
} from '../../lib/engine/rules.js';
import { seeded } from '../support/random.js';
import { buildPlan } from './plans.js';

// Three scopes, of which the second one is single. Each has a rule, and a rule on dry run with a larger burst.
const PEERS = 4;

function planOf(slots: number): RulePlan {
  const scopes = { one: false, everybody: true, two: false };
  const rules = Object.keys(scopes).flatMap((scope) =>
    Array.from({ length: slots }, (_, slot) => {
      const rule = { scope, rate: 1, burst: slot === 1 ? 100 : 4, dryRun: slot === 1 };
      return [`${scope} ${slot}`, rule] as const;
    }),
  );
  const bans = {
    one: { violations: 2, withinSeconds: 60, seconds: [5], forgetAfterSeconds: 60 },
    two: { violations: 3, withinSeconds: 60, seconds: [5] },
  };
  const { plan } = buildPlan({ scopes, rules: Object.fromEntries(rules), bans });
  return { ...plan, added: new Uint16Array(3) };
}

const create = (plan = planOf(2), maxPeers = PEERS) =>
  new JsRuleLimiter({ maxPeers, single: [false, true, false], plan });

const LONG = 'a key with a text of its own'.padEnd(300, '-');
const KNOWN = ['a', '77', 'c', LONG, `${LONG}2`];
const KEYS = [...KNOWN, 'newcomer', `${LONG}3`];

const keysOf = (first?: string, third?: string): [RuleKeys, mask: number] => [
  [first, undefined, third],
  2 | (first === undefined ? 0 : 1) | (third === undefined ? 0 : 4),
];

function setCost(cost: number): void {
  RULE_NUMBERS.fill(0);
  RULE_NUMBERS.fill(cost, 0, 8);
}

describe('The TypeScript rule engine without memory for a Map entry', () => {
  /** Runs `act` while the Map entry of that number, counted from 0, finds no memory, and all after it. */
  function without(entry: number, act: () => unknown): unknown {
    const { set } = Map.prototype;
    let left = entry;
    Map.prototype.set = function (key, value) {
      if (!this.has(key) && left-- <= 0) throw new RangeError('Map maximum size exceeded');
      return set.call(this, key, value);
    };
    try {
      return act();
    } catch (error) {
      return (error as { code?: unknown }).code;
    } finally {
      Map.prototype.set = set;
    }
  }

  /** A limiter after random checks, all of whose records were refilled at `now`. */
  function someLimiter(seed: number) {
    const random = seeded(seed);
    const limiter = create();
    let now = 1000;
    for (let n = 0; n < 30; n += 1) {
      if (random() < 0.3) now += random() * 3;
      setCost(1 + random.below(3));
      limiter.check(...keysOf(random.pick(KNOWN), random.pick([undefined, ...KNOWN])), 0, now);
    }
    setCost(0);
    for (const key of KEYS) limiter.refund(...keysOf(key, key), 0, now);
    return { limiter, now };
  }

  function stateOf(limiter: JsRuleLimiter, now: number): unknown {
    setCost(0);
    const scopes = [0, 2].map((scope) => {
      const { refusedNewcomers: _, ...statistics } = limiter.statistics(scope);
      const steps = [...limiter.snapshot(scope, 100, () => now)];
      const offenders = steps.flatMap(({ offenders }) => offenders.keys);
      const numbers = steps.flatMap(({ offenders }) => [...offenders.numbers]);
      return { statistics, offenders, numbers };
    });
    return [scopes, KEYS.map((key) => limiter.peek(...keysOf(key, key), 0, now))];
  }

  const saved = [5, 1, 2, 9, Number.NaN, 1, 3, ...new Array(MAX_RULES - 1).fill(Number.NaN)];
  const acts: [name: string, act: (limiter: JsRuleLimiter, key: string, now: number) => unknown][] =
    [
      ['an allowed check', (limiter, key, now) => check(limiter, key, 1, now)],
      ['a refused check', (limiter, key, now) => check(limiter, key, 5, now)],
      ['a charge', (limiter, key, now) => limiter.charge(...keysOf(key, key), 0, now)],
      ['a ban', (limiter, key, now) => limiter.ban(0, key, 7, now)],
      [
        'a restore',
        (limiter, key, now) =>
          limiter.restore(0, { keys: [key], numbers: Float64Array.from(saved) }, now),
      ],
    ];
  const check = (limiter: JsRuleLimiter, key: string, cost: number, now: number) => {
    setCost(cost);
    return limiter.check(...keysOf(key, key), 0, now);
  };

  test.each(acts)('changes nothing in %s that throws, and does it later', (_, act) => {
    let failures = 0;
    for (let seed = 0; seed < 15; seed += 1) {
      for (const key of ['newcomer', LONG, `${LONG}3`]) {
        const whole = someLimiter(seed);
        setCost(2);
        const answer = act(whole.limiter, key, whole.now);
        for (let entry = 0; ; entry += 1) {
          const { limiter, now } = someLimiter(seed);
          const before = stateOf(limiter, now);
          setCost(2);
          const result = without(entry, () => act(limiter, key, now));
          if (result !== 'ERR_LIMITER_MEMORY') {
            expect(result).toEqual(answer);
            break;
          }
          failures += 1;
          expect(stateOf(limiter, now)).toEqual(before);
          setCost(2);
          expect(act(limiter, key, now)).toEqual(answer);
          expect(stateOf(limiter, now)).toEqual(stateOf(whole.limiter, now));
          for (const scope of [0, 2]) {
            for (const peer of KEYS) limiter.removePeer(scope, peer);
            const empty = { peers: 0, totalViolations: 0, unnamedOffenders: 0, topViolators: [] };
            expect(limiter.statistics(scope)).toMatchObject(empty);
          }
        }
      }
    }
    expect(failures).toBeGreaterThan(40);
  });
});

describe('The TypeScript rule engine near the end of the stack', () => {
  const FRAMES = 150;
  // When V8 optimizes a function is chance, and so is what stack it needs then.
  beforeAll(() => {
    for (const flag of ['--no-opt', '--no-sparkplug', '--no-flush-bytecode'])
      setFlagsFromString(flag);
  });
  afterAll(() => {
    for (const flag of ['--opt', '--sparkplug', '--flush-bytecode']) setFlagsFromString(flag);
  });

  /** Calls `act` from each of the last frames; counts those in which it threw a RangeError. */
  function nearTheEnd(act: () => void): number {
    let frames = 0;
    let thrown = 0;
    const descend = () => {
      try {
        descend();
      } catch {
        // This frame is one of the last.
      }
      frames += 1;
      if (frames > FRAMES) return;
      try {
        act();
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        thrown += 1;
      }
    };
    descend();
    return thrown;
  }

  test('counts every check that it answers, and no other', () => {
    const random = seeded(1);
    const answers = new Int32Array(5);
    let limiter = create(planOf(2), 6);
    let calls: [keys: RuleKeys, mask: number][] = [];
    let at = 0;
    let now = 1000;
    // Calls nothing once it has the answer.
    const ask = () => {
      at += 1;
      const [keys, mask] = calls[at % calls.length] as [RuleKeys, number];
      (answers[limiter.check(keys, mask, 0, now) ?? 0] as number) += 1;
    };
    const nextCalls = () => {
      calls = Array.from({ length: FRAMES }, () =>
        keysOf(...[0, 2].map(() => random.pick([undefined, ...KEYS]))),
      );
      setCost(1 + random.below(3));
    };
    // What has not run yet V8 compiles first, for which it needs more stack than all of these frames.
    for (let n = 0; n < 5000; n += 1) {
      if (n % 50 === 0) nextCalls();
      now += random();
      ask();
    }
    limiter = create(planOf(2), 6);
    answers.fill(0);
    let thrown = 0;
    for (let round = 0; round < 60; round += 1) {
      now += random() * 20;
      nextCalls();
      thrown += nearTheEnd(ask);
      const totals = limiter.totals();
      expect(totals.allowed).toBe(answers[0]);
      expect(totals.delayed).toBe(
        (answers[RULE_DELAYED] as number) + (answers[RULE_NO_ROOM] as number),
      );
      expect(totals.banned).toBe(answers[RULE_BANNED]);
      for (const scope of [0, 2]) {
        const { peers, totalViolations, topViolators } = limiter.statistics(scope);
        const counts = KEYS.map((key) => limiter.violations(scope, key));
        expect(peers).toBeLessThanOrEqual(6);
        expect(totalViolations).toBe(counts.reduce((a, b) => a + b, 0));
        expect(topViolators.map(([, violations]) => violations)).toEqual(
          counts.filter((count) => count > 0).sort((a, b) => b - a),
        );
      }
    }
    expect(thrown).toBeGreaterThan(60);
    for (const answer of [0, RULE_DELAYED, RULE_BANNED]) {
      expect(answers[answer]).toBeGreaterThan(10);
    }
  });
});

describe('The TypeScript rule engine', () => {
  test('allows a check where only a dry-run rule needs a record and there is no room', () => {
    const plan = planOf(2);
    // In scope 0 the second rule applies alone.
    plan.applies[0] = 2;
    const limiter = create(plan, 1);
    expect(limiter.ban(0, 'banned', Infinity, 1000)).toBe(true);
    setCost(1);
    expect(limiter.check(...keysOf('newcomer', 'newcomer'), 0, 1000)).toBeUndefined();
    expect(limiter.peek(...keysOf('newcomer', 'newcomer'), 0, 1000).used[1]).toBe(0);
    expect(limiter.statistics(0)).toMatchObject({ peers: 1, refusedNewcomers: 1 });
    expect(limiter.statistics(2)).toMatchObject({ peers: 1, refusedNewcomers: 0 });
  });

  test('moves records to wider ones where they are used, and all when the table grows', () => {
    const limiter = create(planOf(1), 1000);
    const names = Array.from({ length: 60 }, (_, n) => `peer ${n}`);
    const charge = (from: number, to: number, cost: number) => {
      setCost(cost);
      for (const name of names.slice(from, to)) limiter.charge(...keysOf(name), 0, 1000);
    };
    const usedBy = (n: number) => [...limiter.peek(...keysOf(names[n]), 0, 1000).used.slice(0, 13)];
    charge(0, 60, 1);
    limiter.update({ ...planOf(5), added: Uint16Array.of(0b11110, 0b11110, 0b11110) }, 1000);
    charge(0, 20, 2);
    limiter.update({ ...planOf(13), added: new Uint16Array(3).fill(0x1fe0) }, 1000);
    charge(10, 30, 4);
    limiter.removePeer(0, names[5] as string);
    expect(usedBy(0)).toEqual([3, 0, 2, 2, 2, ...new Array(8).fill(0)]);
    expect(usedBy(15)).toEqual([7, 0, 6, 6, 6, ...new Array(8).fill(4)]);
    expect(usedBy(25)).toEqual([5, 0, ...new Array(11).fill(4)]);
    for (let n = 0; n < 100; n += 1) limiter.charge(...keysOf(`newcomer ${n}`), 0, 1000);
    expect(usedBy(0)).toEqual([3, 0, 2, 2, 2, ...new Array(8).fill(0)]);
    expect(usedBy(59)).toEqual([1, ...new Array(12).fill(0)]);
  });

  test('finds a saved peer by its digest in a limiter with the same secret', () => {
    const [old, fresh] = [create(), create()];
    setCost(3);
    // Of 4 tokens; nobody is an offender.
    const slow = { ...planOf(2), rates: new Float64Array(3 * MAX_RULES).fill(0.01) };
    for (const limiter of [old, fresh]) limiter.update(slow, 1000);
    old.charge(...keysOf('a'), 0, 1000);
    const [step] = [...old.snapshot(0, 100, () => 1001)].filter(
      ({ digests }) => digests.digests.length > 0,
    );
    expect(step?.digests.numbers).toHaveLength(RULE_DIGEST_NUMBERS);
    expect(step?.offenders.numbers).toHaveLength(0 * RULE_OFFENDER_NUMBERS);
    fresh.restoreDigests(0, (step as NonNullable<typeof step>).digests, 2000);
    expect(fresh.statistics(0).peers).toBe(0);
    setCost(3);
    expect(fresh.check(...keysOf('a'), 0, 2000)).toBe(RULE_DELAYED);
    expect(fresh.statistics(0).peers).toBe(1);
    expect(fresh.peek(...keysOf('a'), 0, 2000).used[0]).toBe(3 - 0.01);
  });
});
