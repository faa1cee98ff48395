// The bound of mode `leased`, in simulations: whatever the network, the clocks and the nodes do, all nodes together
// admit at most burstLimit + rateLimit × T of a peer in any interval T.

import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
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

const number = (min: number, max: number) => fc.double({ min, max, noNaN: true });

const anyScenario: fc.Arbitrary<Scenario> = fc.record({
  seed: fc.nat(),
  nodes: fc.oneof(fc.integer({ min: 2, max: 8 }), fc.integer({ min: 2, max: 64 })),
  seconds: number(5, 20),
  rateLimit: number(0.5, 100),
  burstLimit: number(1, 300),
  leaseSeconds: number(0.2, 10),
  policy: fc.constant('closed' as const),
  load: number(0.5, 10),
  latency: number(0, 0.06),
  loss: fc.oneof(fc.constant(0), number(0, 0.3)),
  restarts: fc.nat(5),
  outages: fc.constant([]),
});

const anyOutage = fc.record({
  at: number(2, 10),
  seconds: number(0.01, 6),
  kind: fc.constantFrom('cut' as const, 'data loss' as const, 'pause' as const),
});

/** Two outages, one after the other. */
const anyOutages = fc
  .tuple(anyOutage, number(0.01, 6), anyOutage)
  .map(([first, pause, then]) => [first, { ...then, at: first.at + first.seconds + pause }]);

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
      { numRuns: 8 },
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
      { numRuns: 8 },
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
      { numRuns: 8 },
    );
  });
});
