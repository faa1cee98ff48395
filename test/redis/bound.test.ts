// The bound of mode `leased`, in simulations: whatever the network, the clocks and the nodes do, all nodes together
// admit at most burstLimit + rateLimit × T of a peer in any interval T.

import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { runs } from '../support/runs.js';
import { type Scenario, simulate } from './support/simulation.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const CALM: Scenario = {
  seed: 1,
  nodes: 4,
  seconds: 30,
  rateLimit: 20,
  burstLimit: 50,
  leaseSeconds: 5,
  policy: 'closed',
  load: 40,
  latency: 0.01,
  loss: 0,
  restarts: 0,
  outages: [],
};

/** Draws evenly: fc.double draws exponents evenly, so that most values are next to the minimum. */
const number = (min: number, max: number) => {
  const parts = 2 ** 20;
  return fc.integer({ min: 0, max: parts }).map((part) => min + (part / parts) * (max - min));
};

/** Checks per second of all nodes together in a calm, at most: what a simulation costs. */
const MAX_LOAD = 150;

const anyScenario: fc.Arbitrary<Scenario> = fc
  .record({
    seed: fc.nat(),
    nodes: fc.oneof(fc.integer({ min: 2, max: 8 }), fc.integer({ min: 2, max: 64 })),
    seconds: number(5, 20),
    rateLimit: number(0.5, 100),
    burstLimit: number(1, 300),
    leaseSeconds: number(0.2, 10),
    policy: fc.constant('closed' as const),
    load: number(0.5, 10),
    latency: number(0, 0.06),
    // Nodes that lose much take the store for down, and admit next to nothing.
    loss: fc.oneof(fc.constant(0), number(0, 0.02), number(0, 0.3)),
    restarts: fc.nat(5),
    outages: fc.constant<Scenario['outages']>([]),
  })
  .map((scenario) => ({ ...scenario, load: Math.min(scenario.load, MAX_LOAD / scenario.nodes) }));

const anyOutage = fc.record({
  at: number(2, 10),
  seconds: number(0.01, 6),
  kind: fc.constantFrom('cut' as const, 'data loss' as const, 'pause' as const),
});

/** Two outages, one after the other. */
const anyOutages = fc
  .tuple(anyOutage, number(0.01, 6), anyOutage)
  .map(([first, pause, then]) => [first, { ...then, at: first.at + first.seconds + pause }]);

/** A found counterexample is printed with its seed; looking for a simpler one would take minutes. */
const RUNS = { ...runs(12), endOnFailure: true };

// The rounding error of sums of epoch seconds: a quarter of a microsecond per addition.
const ROUNDING = 1e-3;

describe('SharedRateLimiter in mode leased', () => {
  it('admits at least half of what the bound allows, under constant load', async () => {
    const { excess, admitted } = await simulate(CALM);
    expect(excess).toBeLessThanOrEqual(ROUNDING);
    // The rest is on lease at the end, or was on lease at nodes that got no checks.
    expect(admitted).toBeGreaterThan(0.5 * (50 + 20 * 30));
  });

  it('keeps the bound with lost and late messages, replaced nodes and different clocks', async () => {
    await fc.assert(
      fc.asyncProperty(anyScenario, async (scenario) => {
        const { excess } = await simulate(scenario);
        expect(excess).toBeLessThanOrEqual(ROUNDING);
      }),
      RUNS,
    );
  });

  it('keeps the bound through two outages with the policy closed', async () => {
    await fc.assert(
      fc.asyncProperty(anyScenario, anyOutages, async (scenario, outages) => {
        // A node that starts after a loss of data cannot notice it.
        const losesData = outages.some(({ kind }) => kind === 'data loss');
        const restarts = losesData ? 0 : scenario.restarts;
        const { excess } = await simulate({ ...scenario, restarts, seconds: 20, outages });
        expect(excess).toBeLessThanOrEqual(ROUNDING);
      }),
      RUNS,
    );
  });

  it('exceeds the bound with the policy share by at most rateLimit × the time without the store', async () => {
    await fc.assert(
      fc.asyncProperty(anyScenario, anyOutages, async (scenario, outages) => {
        const losesData = outages.some(({ kind }) => kind === 'data loss');
        const restarts = losesData ? 0 : scenario.restarts;
        const policy = 'share' as const;
        const storm = { ...scenario, policy, restarts, seconds: 20, outages };
        const { excess, downSeconds } = await simulate(storm);
        expect(excess).toBeLessThanOrEqual(scenario.rateLimit * downSeconds + ROUNDING);
      }),
      RUNS,
    );
  });
});
