// The bound: in any interval T no more than burst + rate x T.

export interface Admission {
  /** Seconds. */
  at: number;
  cost: number;
}

/**
 * How far the admissions go beyond the bound, in tokens, at the worst of all intervals; below 0 if there
 * is room in each. A bucket that may run into debt finds it: its lowest level.
 */
export function excess(admissions: readonly Admission[], rate: number, burst: number): number {
  let level = burst;
  let last = Number.NEGATIVE_INFINITY;
  let lowest = burst;
  for (const { at, cost } of [...admissions].sort((a, b) => a.at - b.at)) {
    level =
      Math.min(burst, last === Number.NEGATIVE_INFINITY ? burst : level + (at - last) * rate) -
      cost;
    last = at;
    lowest = Math.min(lowest, level);
  }
  return -lowest;
}
