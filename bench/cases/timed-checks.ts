// Checks by key of a limiter that allows all of them, timed or counted.

import type { Peers } from '../keys.js';
import { time } from '../timing.js';
import type { Round } from './case.js';

/** Checks per piece of work: enough that the loop around them costs almost nothing. */
const BATCH = 1_000;

/** A round of the metric `ns`: one check. @throws if a check is not allowed */
export function timedChecks(
  limiter: { check(key: string): readonly [action: string, ...rest: unknown[]] },
  { sample }: Peers,
): () => Round {
  let next = 0;
  let wrong = 0;
  const work = () => {
    for (let i = 0; i < BATCH; i += 1) {
      if (limiter.check(sample[next] as string)[0] !== 'allow') wrong += 1;
      next = next + 1 === sample.length ? 0 : next + 1;
    }
  };
  return () => {
    const ns = time(work, BATCH);
    if (wrong > 0) throw new Error(`${wrong} answers were not as they should be`);
    return { figures: { ns } };
  };
}

/** A check that answers later: whether it was allowed. */
export type LaterCheck = (key: string) => Promise<boolean>;

/** Checks the keys in turn, `checks` times, with `atOnce` checks under way. @throws if one is not allowed */
export async function laterChecks(
  check: LaterCheck,
  keys: readonly string[],
  checks: number,
  atOnce: number,
): Promise<void> {
  let begun = 0;
  let wrong = 0;
  const one = async () => {
    while (begun < checks) {
      const key = keys[begun % keys.length] as string;
      begun += 1;
      if (!(await check(key))) wrong += 1;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, one));
  if (wrong > 0) throw new Error(`${wrong} answers were not as they should be`);
}
