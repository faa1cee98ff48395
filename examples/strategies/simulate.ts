// Simulates endless demand on a virtual clock: when a strategy sends, and the figures of the result.

import { POLICIES, type Policy, SIX_HOURS } from './policies.js';
import { fixedWindows, refusals, slidingLog, tokenBuckets } from './servers.js';
import type { Strategy } from './strategies.js';

// Seconds from one request to the next: a client can send no faster.
const MIN_INTERVAL = 0.05;
// Slightly less than ten minutes, against rounding errors: a request exactly at the end must not count.
const TEN_MINUTES = 600 - 1e-6;
const LONG_GAP = 5;
// The number of phases of a server's windows that are tried.
const PHASES = 16;

export interface Outcome {
  readonly name: string;
  readonly sent: number;
  readonly firstTenMinutes: number;
  readonly longestGap: number;
  readonly inLongGaps: number;
  /** `fixed`: for the worst phase of the fixed windows. */
  readonly refused: { readonly fixed: number; readonly sliding: number; readonly bucket: number };
}

/** Returns the times at which a strategy sends, in seconds from its start. */
export function times(
  strategy: Strategy,
  policies: readonly Policy[] = POLICIES,
  seconds: number = SIX_HOURS,
): number[] {
  let now = 0;
  const sender = strategy.start(policies, () => now);
  const sent: number[] = [];
  while (now < seconds) {
    const delay = sender.delay();
    if (delay > 0) {
      now += delay;
      continue;
    }
    sender.send();
    sent.push(now);
    now += MIN_INTERVAL;
  }
  return sent;
}

export function simulate(strategy: Strategy): Outcome {
  const sent = times(strategy);
  const gaps = sent.slice(1).map((time, at) => time - (sent[at] ?? 0));
  const phases = Array.from({ length: PHASES }, (_, n) =>
    // Each window has its own phase; multiples of the golden ratio are evenly distributed.
    POLICIES.map((_, window) => ((n * POLICIES.length + window) * 0.6180339887) % 1),
  );
  return {
    name: strategy.name,
    sent: sent.length,
    firstTenMinutes: sent.filter((time) => time < TEN_MINUTES).length,
    longestGap: Math.max(...gaps),
    inLongGaps: gaps.filter((gap) => gap > LONG_GAP).reduce((sum, gap) => sum + gap, 0),
    refused: {
      fixed: Math.max(...phases.map((phase) => refusals(fixedWindows(POLICIES, phase), sent))),
      sliding: refusals(slidingLog(POLICIES), sent),
      bucket: refusals(tokenBuckets(POLICIES), sent),
    },
  };
}
