// The script of a shared quota on a real server: it returns what the SimulatedQuotaStore returns, on which simulations run.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createQuotaScript, type QuotaCall } from '../../lib/redis/quota/quota-script.js';
import { runs } from '../support/runs.js';
import { evalAndPersist } from './support/eval.js';
import { SimulatedQuotaStore } from './support/simulated-quota-store.js';
import { NO_STORE, PREFIX, storeOfTests } from './support/store.js';

// The test passes the time as the last argument.
const CLOCK = 'local now = tonumber(ARGV[#ARGV])';
const NEVER_LATE = '1e300';
const WINDOWS: QuotaCall['windows'] = [
  { quota: 10, seconds: 4, unit: 'requests' },
  { quota: 2, seconds: 0.5, unit: 'requests' },
  { quota: 500, seconds: 10.1, unit: 'tokens' },
];

/** Windows of which much can be leased ahead of use. */
const WIDE: QuotaCall['windows'] = [
  { quota: 40, seconds: 4, unit: 'requests' },
  { quota: 900, seconds: 10.1, unit: 'tokens' },
];

/** Evenly spread, unlike `fc.double`, which prefers numbers near 0. */
const number = (min: number, max: number) => {
  return fc.integer({ min: min * 1000, max: max * 1000 }).map((n) => n / 1000);
};
const anyAmounts = fc.tuple(fc.oneof(fc.nat(3), number(-1, 3)), fc.nat(100));
/** What a node does: most calls are as a node makes them, some are repeated, late, or of another epoch. */
const anyCall = fc.record({
  node: fc.constantFrom('1', '2', '3'),
  // The real key does not expire here, so no step is as long as the simulated key is kept.
  step: fc.oneof({ weight: 9, arbitrary: number(0, 1) }, { weight: 1, arbitrary: number(-3, 10) }),
  idStep: fc.constantFrom(1, 1, 1, 1, 0, -1),
  known: fc.nat(20),
  isOtherEpoch: fc.nat(20).map((n) => n === 0),
  spent: fc.array(fc.tuple(fc.nat(2), number(0, 6), anyAmounts), { maxLength: 2 }),
  first: fc.oneof(
    { weight: 8, arbitrary: fc.tuple(fc.nat(3), fc.nat(40)) },
    { weight: 1, arbitrary: fc.tuple(fc.nat(50), fc.nat(600)) },
    { weight: 1, arbitrary: fc.constant([0, 0] as [number, number]) },
  ),
  ahead: fc.tuple(fc.nat(20), fc.nat(500)),
  block: fc.nat(30).map((n) => (n === 0 ? 1.5 : 0)),
  leaseSeconds: number(0.2, 3),
  windows: fc.constantFrom(WINDOWS, WIDE, WIDE, WIDE, [
    { quota: 30, seconds: 20, unit: 'requests' },
  ]),
});

describe.skipIf(NO_STORE)('the script of a shared quota', () => {
  const real = storeOfTests();
  let keys = 0;

  const { text } = createQuotaScript('run', CLOCK);
  const nameOf = (key: string) => `${PREFIX}:${key}`;

  const compare = async (key: string, store: SimulatedQuotaStore, args: string[], now: number) => {
    const reply = await evalAndPersist(real.client, text, [nameOf(key)], [...args, String(now)]);
    const replies = [reply, store.call(key, args, now)] as unknown[][];
    const [words, simulated] = replies.map((reply) => reply.map(String)) as [string[], string[]];
    expect(words.length).toBe(simulated.length);
    words.forEach((word, index) => {
      if (word === '' || Number.isNaN(Number(word))) expect(word).toBe(simulated[index]);
      else expect(Number(word)).toBeCloseTo(Number(simulated[index]), 6);
    });
    return words;
  };

  it('returns what the simulated store returns, whatever the calls', async () => {
    let granted = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(anyCall, { minLength: 1, maxLength: 40 }), async (calls) => {
        keys += 1;
        const store = new SimulatedQuotaStore(() => 0);
        const ids = new Map<string, number>();
        let now = 1e6;
        let epoch = '';
        for (const { node, step, idStep, isOtherEpoch, known, spent, ...given } of calls) {
          now += step;
          const last = ids.get(node) ?? 0;
          const id = Math.max(1, last + idStep);
          ids.set(node, Math.max(last, id));
          const units = [...new Set(given.windows.map(({ unit }) => unit))];
          const call: QuotaCall = {
            ...given,
            id,
            known: known < 5 ? last : 0,
            epoch: isOtherEpoch ? 'other' : epoch,
            newEpoch: `${node}-${id}`,
            units,
            spent: spent.map(([before, age, amounts]) => [
              Math.max(1, id - before),
              age,
              ...amounts.slice(0, units.length),
            ]),
            first: given.first.slice(0, units.length),
            ahead: given.ahead.slice(0, units.length),
            graceSeconds: 2,
          };
          const args = [`${NEVER_LATE} -1e300 0 -1e300 -1e300 0`, node, JSON.stringify(call)];
          const reply = await compare(`quota-${keys}`, store, args, now);
          if (reply[0] === 'ok') epoch = reply[3] as string;
          granted += Number(reply[4] ?? 0);
        }
      }),
      runs(),
    );
    expect(granted).toBeGreaterThan(0);
  });

  it('merges a long log as the simulated store does', async () => {
    keys += 1;
    const store = new SimulatedQuotaStore(() => 0);
    const windows = [{ quota: 1000, seconds: 60, unit: 'requests' }];
    const call = (id: number): QuotaCall => ({
      ...{ id, known: id - 1, epoch: '', newEpoch: 'first', windows, units: ['requests'] },
      ...{ first: [id === 5 ? 900 : 1], ahead: [0], block: 0, leaseSeconds: 5, graceSeconds: 2 },
      spent: Array.from({ length: 100 }, (_, index) => {
        return [id, index / 200, index % 7 === 3 ? -1 : 1 + (index % 3)];
      }),
    });
    for (let id = 1; id <= 5; id += 1) {
      const args = [NEVER_LATE, '1', JSON.stringify(call(id))];
      await compare(`quota-${keys}`, store, args, 1e6 + id);
    }
  });

  it('refuses a key that holds anything else, and leaves it as it is', async () => {
    keys += 1;
    const key = nameOf(`quota-${keys}`);
    const run = () =>
      real.client.eval(text, { keys: [key], arguments: [NEVER_LATE, '1', '{}', '1'] });
    await real.client.set(key, 'something else');
    await expect(run()).rejects.toThrow(/WRONGTYPE/);
    expect(await real.client.get(key)).toBe('something else');
    await real.client.del(key);
    await real.client.sAdd(key, 'a');
    await expect(run()).rejects.toThrow(/WRONGTYPE/);
  });
});
