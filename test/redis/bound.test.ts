// The bound of mode `leased`, in simulations: whatever the network, the clocks and the nodes do, all
// nodes together admit at most burst + rate x T of a peer in any interval T.

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
  kind: fc.constantFrom('cut' as const, 'lost' as const, 'still' as const),
});

/** One after the other. */
const anyOutages = fc
  .tuple(anyOutage, number(0.01, 6), anyOutage)
  .map(([first, pause, then]) => [first, { ...then, at: first.at + first.seconds + pause }]);

// What doubles lose in sums of epoch seconds: a quarter of a microsecond each time.
const ROUNDING = 1e-3;

describe('the bound', () => {
  it('is reached: what may be admitted is admitted', async () => {
    const { excess: over, admitted } = await simulate(CALM);
    expect(over).toBeLessThanOrEqual(ROUNDING);
    // Some is on lease at the end, or was where nobody asked for it.
    expect(admitted).toBeGreaterThan(0.5 * (50 + 20 * 30));
  });

  it('holds with losses, delays, restarts of nodes, and clocks that differ', async () => {
    await fc.assert(
      fc.asyncProperty(anyScenario, async (scenario) => {
        const { excess: over } = await simulate(scenario);
        expect(over).toBeLessThanOrEqual(ROUNDING);
      }),
      { numRuns: 15 },
    );
  });

  it('holds with `closed`, whatever comes together', async () => {
    await fc.assert(
      fc.asyncProperty(anyScenario, anyOutages, async (scenario, outages) => {
        // A node that was not there before does not know that something was lost.
        const isLost = outages.some(({ kind }) => kind === 'lost');
        const restarts = isLost ? 0 : scenario.restarts;
        const { excess: over } = await simulate({ ...scenario, restarts, seconds: 20, outages });
        expect(over).toBeLessThanOrEqual(ROUNDING);
      }),
      { numRuns: 15 },
    );
  });

  it('is exceeded with `share` by what nodes give out alone, at most', async () => {
    await fc.assert(
      fc.asyncProperty(anyScenario, anyOutages, async (scenario, outages) => {
        const isLost = outages.some(({ kind }) => kind === 'lost');
        const restarts = isLost ? 0 : scenario.restarts;
        const policy = 'share' as const;
        const storm = { ...scenario, policy, restarts, seconds: 20, outages };
        const { excess: over, alone } = await simulate(storm);
        expect(over).toBeLessThanOrEqual(scenario.rateLimit * alone + ROUNDING);
      }),
      { numRuns: 15 },
    );
  });
});
