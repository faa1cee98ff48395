// What it costs a client to ask whether a request may go, under four windows.

import { PolicyLimiter, type PolicyLimiterOptions } from 'relay-limiter/client';
import { time } from '../timing.js';
import { type Case, NO_PEERS, type Round } from './case.js';

const POLICIES = [
  { quota: 240, windowSeconds: 60 },
  { quota: 1_800, windowSeconds: 600 },
  { quota: 9_000, windowSeconds: 3_600 },
  { quota: 21_600, windowSeconds: 10_800 },
];
// Every request goes, and what is old leaves as the new comes.
const SECONDS_BETWEEN = 0.6;
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
  // One upstream.
  sizes: [NO_PEERS],
  contestants: () => Object.keys(ALGORITHMS),
  rounds: 7,
  fresh: false,
  metrics: [{ name: 'ns', unit: 'ns', label: 'a request' }],
  async prepare(contestant) {
    const algorithm = ALGORITHMS[contestant];
    if (algorithm === undefined) throw new Error(`no such algorithm: ${contestant}`);
    const allowed = algorithm === contestant;
    let ahead = 0;
    // Reads the clock that it has by default, and is always where the next request may go.
    const clock = () => {
      if (allowed) ahead += SECONDS_BETWEEN;
      return performance.now() / 1e3 + ahead;
    };
    const limiter = new PolicyLimiter({ policies: POLICIES, algorithm, clock });
    prove(algorithm);
    // Nothing goes for a minute then, which is longer than all rounds take.
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
