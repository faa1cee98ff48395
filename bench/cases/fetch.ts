// What limitFetch adds to a request that need not wait, over a fetch that answers at once.

import { limitFetch, PolicyLimiter } from 'relay-limiter/client';
import { timeLater } from '../timing.js';
import { type Case, NO_PEERS, type Round } from './case.js';

const USUAL = {
  'content-type': 'application/json; charset=utf-8',
  date: 'Sun, 22 Nov 2026 15:20:00 GMT',
  etag: 'W/"200-abc"',
};
const FIELDS = {
  none: USUAL,
  'X-RateLimit': {
    ...USUAL,
    'x-ratelimit-limit': '5000000',
    'x-ratelimit-remaining': '4999000',
    'x-ratelimit-reset': '1900000000',
  },
  RateLimit: {
    ...USUAL,
    'ratelimit-policy': '"a";q=5000000;w=60',
    ratelimit: '"a";r=4999000;t=60',
  },
};
type Fields = keyof typeof FIELDS;

const ALONE = 'fetch alone';
const CONTESTANTS: Readonly<Record<string, Fields>> = {
  [ALONE]: 'X-RateLimit',
  'limited, no fields': 'none',
  'limited, X-RateLimit': 'X-RateLimit',
  'limited, RateLimit': 'RateLimit',
};
const BATCH = 200;

export const fetchOverhead: Case = {
  name: 'fetch-overhead',
  title: 'a request of limitFetch that does not wait, by the rate-limit headers of its response',
  sizes: [NO_PEERS],
  contestants: () => Object.keys(CONTESTANTS),
  rounds: 7,
  fresh: false,
  baseline: ALONE,
  metrics: [{ name: 'ns', unit: 'ns', label: 'per request' }],
  async prepare(contestant) {
    const fields = CONTESTANTS[contestant];
    if (fields === undefined) throw new Error(`no such contestant: ${contestant}`);
    let sent = 0;
    const answering: typeof fetch = async () => {
      sent += 1;
      return new Response(null, { headers: FIELDS[fields] });
    };
    await prove(answering);
    const limiter = new PolicyLimiter({ policies: [{ quota: 1e9, windowSeconds: 1 }] });
    const send = contestant === ALONE ? answering : limitFetch(answering, limiter);
    const work = async () => {
      for (let i = 0; i < BATCH; i += 1) await send('https://api.example/blocks');
    };
    // Compiled before it is timed: a batch is so short that the first ones would count too much.
    for (let batch = 0; batch < 100; batch += 1) await work();
    return async (): Promise<Round> => {
      sent = 0;
      const ns = await timeLater(work, BATCH);
      if (sent === 0 || sent % BATCH !== 0) throw new Error(`${sent} requests were sent`);
      return { figures: { ns } };
    };
  },
};

/** @throws unless it limits */
async function prove(fetch: typeof globalThis.fetch): Promise<void> {
  const limiter = new PolicyLimiter({
    policies: [{ quota: 2, windowSeconds: 1000 }],
    algorithm: 'sliding',
  });
  const limited = limitFetch(fetch, limiter, { deadlineSeconds: 1 });
  const results = await Promise.allSettled([1, 2, 3].map(() => limited('https://api.example/')));
  if (results.filter(({ status }) => status === 'fulfilled').length !== 2) {
    throw new Error('it does not limit');
  }
}
