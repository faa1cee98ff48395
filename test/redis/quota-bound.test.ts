// The bound of a SharedPolicyLimiter, in simulations: whatever the network, the clocks and the processes do, all processes
// together send at most the quota in any interval of its window.

import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { runs } from '../support/runs.js';
import { type QuotaScenario, QuotaSimulation } from './support/quota-simulation.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const CALM: QuotaScenario = {
  seed: 1,
  processes: 4,
  seconds: 30,
  policies: [{ quota: 100, windowSeconds: 10 }],
  algorithm: 'sliding',
  leaseSeconds: 2,
  policy: 'closed',
  costs: 'one',
  load: 4,
  latency: 0.01,
  loss: 0,
  restarts: 0,
  outages: [],
};

/** Evenly spread, unlike `fc.double`, which prefers numbers near 0. */
const number = (min: number, max: number) => {
  return fc.integer({ min: min * 1000, max: max * 1000 }).map((n) => n / 1000);
};
const anyPolicies = fc.oneof(
  fc.tuple(fc.integer({ min: 1, max: 200 }), number(0.5, 20)).map(([quota, windowSeconds]) => {
    return [{ quota, windowSeconds }];
  }),
  fc.tuple(fc.integer({ min: 1, max: 40 }), number(0.5, 3)).map(([quota, windowSeconds]) => {
    return [
      { quota, windowSeconds },
      { quota: 4 * quota, windowSeconds: 6 * windowSeconds },
      { quota: 50 * quota, windowSeconds: 3 * windowSeconds, unit: 'tokens' },
    ];
  }),
);

const anyScenario: fc.Arbitrary<QuotaScenario> = fc.record({
  seed: fc.nat(),
  processes: fc.integer({ min: 2, max: 12 }),
  seconds: number(10, 30),
  policies: anyPolicies,
  algorithm: fc.constantFrom('bucket' as const, 'sliding' as const),
  leaseSeconds: number(0.2, 6),
  policy: fc.constant('closed' as const),
  costs: fc.constant('any' as const),
  load: number(0.5, 4),
  latency: number(0, 0.06),
  loss: fc.constantFrom(0, 0.05, 0.3),
  restarts: fc.nat(12),
  outages: fc.constant([]),
});

const anyOutage = fc.record({
  at: number(2, 10),
  seconds: number(0.01, 6),
  kind: fc.constantFrom('cut' as const, 'pause' as const),
});

async function run(scenario: QuotaScenario): Promise<QuotaSimulation> {
  const simulation = new QuotaSimulation(scenario);
  await simulation.run();
  return simulation;
}

const ROUNDING = 1e-6;

describe('SharedPolicyLimiter', () => {
  it.each(['sliding', 'bucket'] as const)(
    'sends nearly all of the quota with %s under constant load',
    async (algorithm) => {
      const simulation = await run({ ...CALM, algorithm });
      expect(simulation.excess()).toBeLessThanOrEqual(ROUNDING);
      const requests = simulation.sent.reduce(
        (sum, { costs }) => sum + (costs['requests'] ?? 0),
        0,
      );
      expect(requests).toBeGreaterThan(0.95 * 3 * 100);
    },
  );

  it('never sends more than the quotas, with lost and late messages, killed processes and different clocks', async () => {
    await fc.assert(
      fc.asyncProperty(anyScenario, async (scenario) => {
        expect((await run(scenario)).excess()).toBeLessThanOrEqual(ROUNDING);
      }),
      runs(6),
    );
  });

  it('never sends more than the quotas through outages of the store with the policy closed', async () => {
    await fc.assert(
      fc.asyncProperty(anyScenario, anyOutage, async (scenario, outage) => {
        const simulation = await run({ ...scenario, outages: [outage] });
        expect(simulation.excess()).toBeLessThanOrEqual(ROUNDING);
      }),
      runs(4),
    );
  });
});
