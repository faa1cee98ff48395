// The bound: in any interval T no more than burst + rate x T.

export interface Admission {
  /** Seconds: when the verdict was known at the latest. */
  at: number;
  /** When the message was checked, if that is known: it was admitted between then and `at`. */
  from?: number;
  cost: number;
}

/**
 * How far the admissions go beyond the bound for certain, in tokens, in the worst of all intervals; below 0 if
 * there is room in each. An admission counts in an interval that holds all the time in which it may have happened:
 * a process that is suspended before it can note the time makes no admission count twice. O(n^2).
 */
export function excess(admissions: readonly Admission[], rate: number, burst: number): number {
  const known = admissions.map(({ at, from = at, cost }) => ({ from, at, cost }));
  known.sort((a, b) => a.at - b.at);
  let most = -burst;
  for (const start of new Set(known.map(({ from }) => from))) {
    let sum = 0;
    for (const { from, at, cost } of known) {
      if (from < start) continue;
      sum += cost;
      most = Math.max(most, sum - burst - rate * (at - start));
    }
  }
  return most;
}

/** A time for which a node took the store for gone. */
export interface Cut {
  node: number;
  from: number;
  to: number;
}

/**
 * For how many seconds of the whole rate nodes went on with their share while others had the store: so much may come
 * on top of the bound under the policy `share`. While all `nodes` are cut off, their shares add up to the rate.
 */
export function cutSeconds(cuts: readonly Cut[], nodes: number): number {
  const changes = cuts.flatMap(({ from, to }) => [
    { at: from, by: 1 },
    { at: to, by: -1 },
  ]);
  changes.sort((a, b) => a.at - b.at);
  let seconds = 0;
  let down = 0;
  let last = 0;
  for (const { at, by } of changes) {
    if (down > 0 && down < nodes) seconds += ((at - last) * down) / nodes;
    down += by;
    last = at;
  }
  return seconds;
}
