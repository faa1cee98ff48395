// What a check allocates on V8's heap: nothing if it is allowed, and little if it is refused. In the TypeScript engine V8
// allocates 16 bytes for a number that a function returns, such as the time.

import {
  DirectConnectionRateLimiter,
  type EngineName,
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter,
} from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { collectGarbage } from './support/garbage.js';
import { ENGINES } from './support/limiters.js';

const CALLS = 20_000;
/** The first rounds also measure V8's compiler and feedback. */
const ROUNDS = 12;

/**
 * The bytes that one call allocates: the lowest figure of all rounds, since V8 may compile at any time. A round allocates
 * less than the young generation holds, so nothing is collected within it.
 */
function bytesPerCall(call: () => unknown): number {
  let lowest = Infinity;
  for (let round = 0; round < ROUNDS; round += 1) {
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    for (let n = 0; n < CALLS; n += 1) call();
    lowest = Math.min(lowest, process.memoryUsage().heapUsed - before);
  }
  return lowest / CALLS;
}

const AMPLE = { rateLimit: 1e6, burstLimit: 1e12 };
const SCARCE = { rateLimit: 1e-6, burstLimit: 1 };

const NAMES = ['peer', '192.0.2.7', 'alice'] as const;
const KEYS = { connection: NAMES[0], address: NAMES[1], account: NAMES[2] };
const COSTS = { requests: 1, bytes: 512 };

function ruleLimiter(engine: EngineName, limits: { rateLimit: number; burstLimit: number }) {
  return new RuleLimiter({
    engine,
    scopes: { connection: {}, address: { kind: 'address' }, account: {}, server: { single: true } },
    rules: {
      messages: { scope: 'connection', ...limits },
      bytes: { scope: 'connection', unit: 'bytes', ...AMPLE },
      addresses: { scope: 'address', ...AMPLE },
      accounts: { scope: 'account', action: 'event', ...AMPLE },
      everybody: { scope: 'server', ...AMPLE },
    },
  });
}

type Calls = Readonly<Record<string, (engine: EngineName) => () => unknown>>;

const ALLOWED: Calls = {
  'RateLimiter.check'(engine) {
    const limiter = new RateLimiter({ engine, ...AMPLE });
    return () => limiter.check('peer');
  },
  'OrderbookRateLimiter.check'(engine) {
    const limiter = new OrderbookRateLimiter({ engine, rateLimit: 1e12, interval: 1e6 });
    return () => limiter.check('peer');
  },
  'DirectConnectionRateLimiter.checkMessage'(engine) {
    const limiter = new DirectConnectionRateLimiter({
      engine,
      messageRatePerSec: 1e6,
      messageBurst: 1e12,
    });
    return () => limiter.checkMessage('peer');
  },
  'check of an opened peer'(engine) {
    const peer = new RateLimiter({ engine, ...AMPLE }).open('peer');
    return () => peer.check();
  },
  'RuleLimiter.check by keys'(engine) {
    const limiter = ruleLimiter(engine, AMPLE);
    return () => limiter.check(KEYS, COSTS, 'event');
  },
  'check of a RulePeer'(engine) {
    const peer = ruleLimiter(engine, AMPLE).open(KEYS);
    return () => peer.check(COSTS, 'event');
  },
};

const REFUSED: Calls = {
  'RateLimiter.check'(engine) {
    const limiter = new RateLimiter({ engine, ...SCARCE });
    return () => limiter.check('peer');
  },
  'RuleLimiter.check by keys'(engine) {
    const limiter = ruleLimiter(engine, SCARCE);
    return () => limiter.check(KEYS, COSTS, 'event');
  },
  'check of a RulePeer'(engine) {
    const peer = ruleLimiter(engine, SCARCE).open(KEYS);
    return () => peer.check(COSTS, 'event');
  },
};

/** Bytes of one call, some times those that are usual. */
const MOST: Readonly<Record<EngineName, { allowed: number; refused: number }>> = {
  // An object or a number would be 16 bytes or more. A verdict with its numbers has 50 to 110 bytes.
  native: { allowed: 2, refused: 250 },
  // Two to seven numbers, according to what V8 has compiled and inlined; a verdict besides.
  js: { allowed: 250, refused: 600 },
};

describe.each(ENGINES)('on the %s engine', (engine) => {
  const { allowed, refused } = MOST[engine];

  test.each(Object.entries(ALLOWED))('an allowed %s allocates no object', (_, callOf) => {
    expect(bytesPerCall(callOf(engine))).toBeLessThan(allowed);
  });

  test.each(Object.entries(REFUSED))('a refused %s allocates one small object', (_, callOf) => {
    expect(bytesPerCall(callOf(engine))).toBeLessThan(refused);
  });
});
