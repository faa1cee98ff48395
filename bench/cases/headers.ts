// The cost of reading the headers of a response, and of its minimum: parsing the Structured Fields.

import { parseRateLimitHeaders, type ResponseHeaders } from 'relay-limiter/headers';
import { parseList } from 'structured-headers';
import { time } from '../timing.js';
import { type Case, NO_PEERS, type Round } from './case.js';

const POLICY = '"burst";q=100;w=60, "daily";q=5000;w=86400';
const LIMIT = '"burst";r=50;t=30, "daily";r=900;t=36000';
const POLICIES = 2;

// Other fields of a response, which the reader must skip.
const RESPONSE = {
  connection: 'keep-alive',
  'content-length': '512',
  'content-type': 'application/json; charset=utf-8',
  date: 'Sun, 22 Nov 2026 15:20:00 GMT',
  etag: 'W/"200-abc"',
  'ratelimit-policy': POLICY,
  ratelimit: LIMIT,
};

/** Functions that read both fields and return the number of policies and limits. */
const READERS: Readonly<Record<string, () => number>> = {
  'structured-headers alone': () => parseList(POLICY).length + parseList(LIMIT).length,
  'of a record': () => read(RESPONSE),
  'of Headers': () => read(HEADERS),
};

const HEADERS = new Headers(RESPONSE);

function read(headers: ResponseHeaders): number {
  const { policies, limits } = parseRateLimitHeaders(headers);
  return policies.length + limits.length;
}

const BATCH = 100;

export const headers: Case = {
  name: 'headers',
  title: 'reading RateLimit and RateLimit-Policy of two policies',
  // There is one server and no peers.
  sizes: [NO_PEERS],
  contestants: () => Object.keys(READERS),
  rounds: 7,
  fresh: false,
  metrics: [{ name: 'ns', unit: 'ns', label: 'per response' }],
  async prepare(contestant) {
    const reader = READERS[contestant];
    if (reader === undefined) throw new Error(`no such reader: ${contestant}`);
    let wrong = 0;
    const work = () => {
      for (let i = 0; i < BATCH; i += 1) if (reader() !== 2 * POLICIES) wrong += 1;
    };
    return (): Round => {
      const ns = time(work, BATCH);
      if (wrong > 0) throw new Error(`${wrong} responses were misread`);
      return { figures: { ns } };
    };
  },
};
