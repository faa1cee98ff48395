// How often properties are tested. A counterexample may be so rare that `npm test` finds it once in hundreds of runs, in a
// change that has nothing to do with it. Each night `.ci/run --all` tests every property 25 times as often.

/** RELAY_LIMITER_RUNS=n multiplies the runs of all properties. */
const GIVEN = process.env['RELAY_LIMITER_RUNS'] || '1';
const FACTOR = Number(GIVEN);
// With a fraction, fast-check never stops.
if (!Number.isInteger(FACTOR) || FACTOR < 1) {
  throw new Error(`RELAY_LIMITER_RUNS must be a whole number of at least 1, got ${GIVEN}`);
}

/** Parameters of `fc.assert` for a property whose input is drawn anew each time. `usual`: its runs in `npm test`. */
export function runs(usual = 100): { numRuns: number } {
  return { numRuns: usual * FACTOR };
}
