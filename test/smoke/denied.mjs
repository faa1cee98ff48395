// The package where nothing is allowed, as Deno is without flags: no environment, no file, no binary.

import assert from 'node:assert/strict';
import { engineInfo, RateLimiter } from 'relay-limiter';

const { engine, reason } = engineInfo();
assert.equal(engine, 'js');
assert.match(reason, /^cannot search for a native binary: /);
const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 1 });
assert.deepEqual(
  [1, 2].map(() => limiter.check('peer')[0]),
  ['allow', 'delay'],
);
