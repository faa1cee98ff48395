// The seed of tests that draw their input anew in each run. The name of such a test does not contain it, so that a
// test keeps its name.

import { onTestFailed } from 'vitest';

/** RELAY_LIMITER_SEED repeats a run. */
export const SEED = Number(
  process.env['RELAY_LIMITER_SEED'] ?? Math.floor(Math.random() * 2 ** 32),
);

/** Prints SEED if the running test fails. */
export function printSeedOnFailure(): void {
  onTestFailed(({ task }) =>
    console.error(`${task.name}: RELAY_LIMITER_SEED=${SEED} repeats this failure`),
  );
}
