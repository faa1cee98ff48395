// Checks the bound: at most burst + rate x T admissions in any interval T.

export interface Admission {
  /** Seconds: the latest time at which the verdict was known. */
  at: number;
  /** The time of the check, if it is known: the message was admitted between `from` and `at`. */
  from?: number;
  cost: number;
}

/**
 * Returns by how many tokens the admissions certainly exceed the bound in the worst interval; negative if they are below
 * it in every interval. An admission counts only in intervals that contain all the time in which it may have happened:
 * if a process is suspended before it notes the time, no admission counts twice. O(n^2).
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

/** A time during which a node considered the store unavailable. */
export interface Cut {
  node: number;
  from: number;
  to: number;
}

/**
 * Returns the time during which some nodes used their share while others had the store, in seconds of the whole rate:
 * these admissions may exceed the bound under the policy `share`. While all `nodes` are cut off, their shares add up to
 * the rate, so this time does not count.
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
