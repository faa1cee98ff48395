// What a run means: how much was admitted, what the bound is, and whether it held.

import { excess } from '../../examples/fleet/bound.js';
import type { FleetLog } from './log.js';
import type { FleetLimit } from './messages.js';

/** The rounding error of sums of seconds, in tokens. */
const ROUNDING = 1e-3;

/** What a row may admit beyond the bound. */
export interface Allowance {
  /** Bursts that docs/fleet.md names for the fault. */
  readonly bursts: number;
  /** The number of nodes. With the policy `share` each may grant its part of the rate while it has no store. */
  readonly nodes: number;
}

export interface Outcome {
  /** Of the peer with the highest excess: tokens that were admitted, and burst + rate × time. */
  readonly admitted: number;
  readonly bound: number;
  /** Tokens admitted beyond the bound in the worst interval of any peer; negative if there is none. */
  readonly excess: number;
  /** Tokens that may be admitted beyond the bound. */
  readonly allowed: number;
}

/** Compares a log with the bound in all intervals of each peer. @throws if nothing was admitted. */
export function outcomeOf(
  { admissions, cuts }: FleetLog,
  { rateLimit, burstLimit, onStoreFailure }: FleetLimit,
  { bursts, nodes }: Allowance,
): Outcome {
  const downSeconds = cuts.reduce((sum, { from, to }) => sum + to - from, 0) / nodes;
  const ofPolicy = { closed: 0, share: rateLimit * downSeconds, open: Infinity };
  const allowed = bursts * burstLimit + ofPolicy[onStoreFailure];
  const peers = [...admissions.values()].map((all) => {
    const from = Math.min(...all.map((one) => one.from ?? one.at));
    const seconds = Math.max(...all.map(({ at }) => at)) - from;
    return {
      admitted: all.reduce((sum, { cost }) => sum + cost, 0),
      bound: burstLimit + rateLimit * seconds,
      excess: excess(all, rateLimit, burstLimit),
      allowed,
    };
  });
  const [first, ...others] = peers;
  if (first === undefined) throw new Error('no message was admitted');
  return others.reduce((worst, peer) => (peer.excess > worst.excess ? peer : worst), first);
}

/** `holds`: never above. `documented`: above by no more than is documented. `above`: more. `no bound`: none is promised. */
export type Verdict = 'holds' | 'documented' | 'above' | 'no bound';

export function verdictOf({ excess, allowed }: Outcome): Verdict {
  if (allowed === Infinity) return 'no bound';
  if (excess <= ROUNDING) return 'holds';
  return excess <= allowed + ROUNDING ? 'documented' : 'above';
}
