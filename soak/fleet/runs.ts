// A run: one fault, one limiter, one mode and one policy.

import { NODES } from './fleet.js';
import type { FleetLimit } from './messages.js';
import { type Outcome, outcomeOf } from './outcome.js';
import { type Row, run } from './rows.js';
import { Scene, type Tools } from './scene.js';

export interface Run {
  readonly row: Row;
  readonly limit: FleetLimit;
}

/** Short leases, so that a run sees them end; a burst that is filled within two seconds. */
const LIMIT = { rateLimit: 40, burstLimit: 80, leaseSeconds: 1, deadlineSeconds: 0.25 };
/** A fleet that admits nothing for so long after a fault has not come back. */
const PATIENCE_MS = 120_000;

/** Returns the runs of a row: those of a rate limit, and of rules those with the policy `closed`. */
export function runsOf(row: Row): Run[] {
  const variants = [undefined, ...(row.others ?? [])];
  const ofLimiter = (limiter: FleetLimit['limiter']): Run[] =>
    variants.map((variant) => {
      const mode = variant === 'strict' ? 'strict' : 'leased';
      const onStoreFailure = variant === undefined || variant === 'strict' ? 'closed' : variant;
      return { row, limit: { ...LIMIT, limiter, mode, onStoreFailure } };
    });
  const ofRules = ofLimiter('rules').filter(({ limit }) => limit.onStoreFailure === 'closed');
  return [...ofLimiter('rate'), ...ofRules];
}

/** @throws if nothing is admitted after the fault. */
export async function runOnce(tools: Tools, { row, limit }: Run): Promise<Outcome> {
  const scene = await Scene.start(tools, row, limit);
  let timer: NodeJS.Timeout | undefined;
  const givenUp = new Promise<never>((_, reject) => {
    const error = new Error('not all nodes admit messages after the fault');
    timer = setTimeout(() => reject(error), PATIENCE_MS);
  });
  try {
    await Promise.race([run(scene, row), givenUp]);
    return outcomeOf(await scene.end(), limit, { bursts: row.bursts ?? 0, nodes: NODES });
  } finally {
    clearTimeout(timer);
    await scene.close();
  }
}
