// The scripts of rules on a real server: they reply what SimulatedRules replies, on which simulations run.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRuleScript, type RuleScriptName } from '../../../lib/redis/rules/rule-scripts.js';
import { runs } from '../../support/runs.js';
import { evalAndPersist, expectTtl } from '../support/eval.js';
import { SimulatedRules } from '../support/simulated-rules.js';
import { NO_STORE, PREFIX, storeOfTests } from '../support/store.js';

// The test passes the time as the last argument.
const CLOCK = 'local now = tonumber(ARGV[#ARGV])';

const number = (min: number, max: number) => fc.double({ min, max, noNaN: true });
const anyStep = fc.oneof(
  { weight: 5, arbitrary: number(0, 3) },
  { weight: 1, arbitrary: number(-2, 100) },
);
const anyCost = fc.oneof(fc.nat(3), number(0, 10), fc.constant(1000));
const anyOutage = fc.oneof(
  { weight: 6, arbitrary: fc.constant(undefined) },
  {
    weight: 1,
    arbitrary: fc.record({
      ago: number(-5, 5),
      lost: number(0, 20),
      emptyUntil: number(-6, 5),
      halfUntil: number(-5, 5),
      back: fc.oneof(fc.constant(0), number(0, 10)),
    }),
  },
);
const anyRule = fc.record({
  rate: fc.oneof(number(0.001, 1000), fc.constant(1e-7), fc.constant(1e21)),
  burst: number(1, 300),
  slowest: number(1e-7, 1),
  isDry: fc.boolean(),
});
const anyAsked = fc.record({
  rule: fc.nat(2),
  isReturned: fc.boolean(),
  known: fc.nat(20),
  left: fc.oneof(fc.nat(20), number(0, 50)),
  cost: anyCost,
  least: fc.oneof(fc.constant(0), fc.nat(5)),
  most: fc.nat(60),
});
const anyCall = fc.record({
  name: fc.constantFrom<RuleScriptName>(
    ...(['check', 'check', 'check', 'peek', 'settle', 'release', 'punish'] as const),
  ),
  step: anyStep,
  node: fc.integer({ min: 1, max: 3 }),
  asked: fc.uniqueArray(anyAsked, { minLength: 1, maxLength: 3, selector: ({ rule }) => rule }),
  count: fc.integer({ min: 1, max: 4 }),
  random: number(0, 0.99),
  outage: anyOutage,
});
const anyPolicy = fc.record({
  violations: number(1, 6),
  within: number(0.5, 60),
  jitter: number(0, 0.5),
  forget: fc.oneof(number(0.5, 30), fc.constant(1e308)),
  seconds: fc.array(fc.oneof(number(0.1, 20), fc.constant(1e11)), { minLength: 1, maxLength: 3 }),
});

describe.skipIf(NO_STORE)('the Lua scripts of rules', () => {
  const real = storeOfTests();
  let round = 0;

  const textOf = (name: RuleScriptName) => createRuleScript(name, 'run', CLOCK).text;
  const nameOf = (key: string) => `${PREFIX}:{rules}:${key}`;

  const run = (name: RuleScriptName, keys: string[], args: string[], now: number) =>
    real.client.eval(textOf(name), { keys: keys.map(nameOf), arguments: [...args, String(now)] });

  /** Checks at 10 seconds, and expects this time to live, in seconds. */
  const checkForTtl = (key: string, numbers: string, seconds: number) => {
    const args = ['1e300', '1', '0', '20', '0.5', numbers, '10'];
    return expectTtl(real.client, textOf('check'), nameOf(key), args, seconds * 1000);
  };

  it('reply what the simulated store replies', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(anyRule, anyRule, anyRule),
        anyPolicy,
        number(0, 2e9),
        fc.array(anyCall, { minLength: 1, maxLength: 25 }),
        async (rules, policy, start, calls) => {
          round += 1;
          let now = start;
          const simulated = new SimulatedRules(() => now);
          const { violations, within, jitter, forget, seconds } = policy;
          for (const [id, call] of calls.entries()) {
            now += call.step;
            const { name, node, asked, count, random, outage } = call;
            const first =
              outage === undefined
                ? '1e300'
                : `1e300 ${now - outage.ago} ${outage.lost} ${now + outage.emptyUntil} ${now + outage.halfUntil} ${outage.back}`;
            const numbers = asked.map(({ rule }) => {
              const { rate, burst, slowest } = rules[rule] as (typeof rules)[number];
              // A call may come from a process with other plans.
              return `${rate} ${burst} ${rate * slowest ** (id % 3)}`;
            });
            const keys = asked.map(
              ({ rule }) => `${name === 'punish' ? 'o' : 'b'}-${round}-${rule}`,
            );
            const args = {
              check: [
                ...[String(node), String(id), '20', '0.5'],
                ...asked.map(({ rule, isReturned, known, left, cost, least, most }, at) => {
                  const dry = rules[rule]?.isDry ? 1 : 0;
                  const back = isReturned ? 1 : 0;
                  return `${numbers[at]} ${dry} ${back} ${known} ${left} ${cost} ${least} ${most}`;
                }),
              ],
              peek: [String(node), ...numbers],
              settle: [
                ...[String(node), '20'],
                ...asked.map(({ cost, known, left, isReturned }, at) => {
                  return `${numbers[at]} ${known} ${left} ${isReturned ? -cost : cost}`;
                }),
              ],
              release: [
                ...[String(node), '20'],
                ...asked.map(({ known, left }, at) => `${numbers[at]} ${known} ${left}`),
              ],
              punish: asked.map(() =>
                [count, violations, within, jitter, random, forget, ...seconds].join(' '),
              ),
            }[name];
            const stored = keys.map(nameOf);
            const sent = [first, ...args, String(now)];
            const reply = await evalAndPersist(real.client, textOf(name), stored, sent);
            const expected = simulated.runUnexpired(name, keys, [first, ...args], now);
            const read = (value: unknown) =>
              String(value)
                .split(/[ ,]/)
                .map((word) => (Number.isNaN(Number(word)) ? word : Number(word)));
            expect(read(reply)).toEqual(read(expected));
          }
        },
      ),
      runs(),
    );
  });

  it('reply late after their time, and change nothing', async () => {
    const args = ['5', '1', '1', '20', '0.5', '1 10 1 0 0 0 0 1 0 0'];
    expect(await run('check', ['late'], args, 6)).toEqual(['late', '6']);
    expect(await real.client.exists(`${PREFIX}:{rules}:late`)).toBe(0);
  });

  it('refuse a key that holds something else, and leave it as it is', async () => {
    const key = `${PREFIX}:{rules}:foreign`;
    await real.client.set(key, 'mine');
    const args = ['1e300', '1', '1', '20', '0.5', '1 10 1 0 0 0 0 1 0 0'];
    await expect(run('check', ['foreign'], args, 6)).rejects.toThrow('WRONGTYPE');
    await expect(run('peek', ['foreign'], ['1e300', '1', '1 10 1'], 6)).rejects.toThrow(
      'WRONGTYPE',
    );
    await expect(
      run('settle', ['foreign'], ['1e300', '1', '20', '1 10 1 0 0 1'], 6),
    ).rejects.toThrow('WRONGTYPE');
    expect(await run('release', ['foreign'], ['1e300', '1', '20', '1 10 1 1 1'], 6)).toBe(1);
    expect(await run('punish', ['foreign'], ['1e300', '1 2 3 0 0.5 9 60'], 6)).toBe('0 0');
    expect(await real.client.get(key)).toBe('mine');
  });

  it('keep no key of a bucket from which nothing is used', async () => {
    await checkForTtl('fresh', '1 10 1 0 0 0 0 3 0 0', 3 + 1);
    await run('settle', ['fresh'], ['1e300', '1', '20', '1 10 1 0 0 -3'], 10);
    expect(await real.client.exists(nameOf('fresh'))).toBe(0);
  });

  it('keep a key until the bucket is full by the slowest rate of all calls, and write it again for a slower one', async () => {
    await checkForTtl('slow', '100 10 0.1 0 0 0 0 5 0 0', 5 / 0.1 + 1);
    await checkForTtl('slow', '100 10 100 0 0 0 0 1 0 0', 6 / 0.1 + 1);
    // Refused: it takes nothing.
    await checkForTtl('slow', '100 10 0.001 0 0 0 0 9 0 0', 6 / 0.001 + 1);
  });
});
