// The four policies of a public Hive node, and the duration of the simulation.

export interface Policy {
  readonly quota: number;
  readonly windowSeconds: number;
}

export const POLICIES: readonly Policy[] = [
  { quota: 240, windowSeconds: 60 },
  { quota: 1_800, windowSeconds: 600 },
  { quota: 9_000, windowSeconds: 3_600 },
  { quota: 21_600, windowSeconds: 10_800 },
];

export const SIX_HOURS = 21_600;
