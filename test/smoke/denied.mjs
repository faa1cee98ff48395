// The package where nothing is allowed, as Deno is without flags: no environment, no file, no binary.

import assert from 'node:assert/strict';
import { engineInfo, RateLimiter } from 'relay-limiter';
import { rateLimit } from 'relay-limiter/fetch';

const { engine, reason } = engineInfo();
assert.equal(engine, 'js');
assert.match(reason, /^cannot search for a native binary: /);
const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 1 });
assert.deepEqual(
  [1, 2].map(() => limiter.check('peer')[0]),
  ['allow', 'delay'],
);

const limit = rateLimit({ limit: 1 });
const answer = () =>
  limit(new Request('http://localhost/'), () => new Response('ok'), { address: '192.0.2.1' });
assert.deepEqual([(await answer()).status, (await answer()).status], [200, 429]);
