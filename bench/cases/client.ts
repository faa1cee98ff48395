// The cost for a client to decide whether it may send a request, under four windows.

import { PolicyLimiter, type PolicyLimiterOptions } from 'relay-limiter/client';
import { time } from '../timing.js';
import { type Case, NO_PEERS, type Round } from './case.js';

const POLICIES = [
  { quota: 240, windowSeconds: 60 },
  { quota: 1_800, windowSeconds: 600 },
  { quota: 9_000, windowSeconds: 3_600 },
  { quota: 21_600, windowSeconds: 10_800 },
];
// Slow enough that every request is allowed, and that old requests leave the windows as new ones arrive.
const REQUEST_INTERVAL = 0.6;
const BATCH = 1_000;

const ALGORITHMS: Readonly<Record<string, PolicyLimiterOptions['algorithm']>> = {
  bucket: 'bucket',
  sliding: 'sliding',
  fixed: 'fixed',
  'bucket, refused': 'bucket',
};

export const client: Case = {
  name: 'client',
  title: 'tryAcquire under four windows, allowed or refused',
  // There is one upstream and no peers.
  sizes: [NO_PEERS],
  contestants: () => Object.keys(ALGORITHMS),
  rounds: 7,
  fresh: false,
  metrics: [{ name: 'ns', unit: 'ns', label: 'per request' }],
  async prepare(contestant) {
    const algorithm = ALGORITHMS[contestant];
    if (algorithm === undefined) throw new Error(`no such algorithm: ${contestant}`);
    const allowed = algorithm === contestant;
    let ahead = 0;
    // Reads the default clock for its cost, but returns the time at which the next request is allowed.
    const clock = () => {
      if (allowed) ahead += REQUEST_INTERVAL;
      return performance.now() / 1e3 + ahead;
    };
    const limiter = new PolicyLimiter({ policies: POLICIES, algorithm, clock });
    prove(algorithm);
    // After this no request is allowed for a minute, which is longer than all rounds take.
    if (!allowed) limiter.tryAcquire(240);
    let others = 0;
    const work = () => {
      for (let i = 0; i < BATCH; i += 1) if (limiter.tryAcquire() !== allowed) others += 1;
    };
    return (): Round => {
      const ns = time(work, BATCH);
      if (others > 0) throw new Error(`${others} answers were not as they should be`);
      return { figures: { ns } };
    };
  },
};

function prove(algorithm: PolicyLimiterOptions['algorithm']): void {
  const limiter = new PolicyLimiter({ policies: POLICIES, algorithm, clock: () => 0 });
  let sent = 0;
  while (sent <= 240 && limiter.tryAcquire()) sent += 1;
  if (sent === 0 || sent > 240) throw new Error('it does not limit');
}
