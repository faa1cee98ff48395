// The TypeScript engine at the maximum size of V8's Map, with a small maximum. Like V8's, this Map reuses the places of
// deleted keys only if they are half of all places.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { JsDirectLimiter } from '../lib/engine/js/direct-limiter.js';
import { JsOrderbookLimiter } from '../lib/engine/js/orderbook-limiter.js';
import { JsRateLimiter } from '../lib/engine/js/rate-limiter.js';
import { MOST_KEYS } from '../lib/tables/table.js';
import { seeded } from './support/random.js';

const MOST = 32;
const ENTRIES = 2 * MOST;

let random = seeded(7);

const { set, delete: remove, clear } = Map.prototype;

beforeEach(() => {
  random = seeded(7);
  const deleted = new WeakMap<object, number>();
  const deletedOf = (map: object) => deleted.get(map) ?? 0;
  Map.prototype.set = function (key, value) {
    if (!this.has(key) && this.size + deletedOf(this) === ENTRIES) {
      if (deletedOf(this) < ENTRIES / 2) throw new RangeError('Map maximum size exceeded');
      deleted.set(this, 0);
    }
    return set.call(this, key, value);
  };
  Map.prototype.delete = function (key) {
    const had = remove.call(this, key);
    if (had) deleted.set(this, deletedOf(this) + 1);
    return had;
  };
  Map.prototype.clear = function () {
    deleted.delete(this);
    clear.call(this);
  };
});
afterEach(() => Object.assign(Map.prototype, { set, delete: remove, clear }));

describe('The TypeScript engine with a small Map', () => {
  // More of them than fit, long ones that a text is kept of among them.
  const keys = Array.from({ length: 200 }, (_, n) => `${n}`.padEnd(n % 4 === 0 ? 200 : 1, '-'));
  const bans = { banDuration: 50, maxPeers: Infinity };
  const rate = (most: number) => {
    const config = { rateLimit: 1, burstLimit: 2, disconnectThreshold: null, maxPeers: Infinity };
    const limiter = new JsRateLimiter(config, most);
    return { limiter, ask: (key: string, now: number) => limiter.check(key, 1, now) };
  };
  const orderbook = (most: number) => {
    const levels = { violationWarningThreshold: 2, violationSevereThreshold: 3 };
    const config = { interval: 5, violationBanThreshold: 3, ...levels, ...bans };
    const limiter = new JsOrderbookLimiter(config, most);
    return { limiter, ask: (key: string, now: number) => limiter.check(key, now) };
  };
  const direct = (most: number) => {
    const rates = { messageRatePerSec: 1, messageBurst: 2 };
    const config = { ...rates, orderbookInterval: 5, orderbookBanThreshold: 3, ...bans };
    const limiter = new JsDirectLimiter(config, most);
    const ask = (key: string, now: number) =>
      random() < 0.5 ? limiter.checkMessage(key, 1, now) : limiter.checkOrderbook(key, now);
    return { limiter, ask };
  };
  const kinds = { JsRateLimiter: rate, JsOrderbookLimiter: orderbook, JsDirectLimiter: direct };

  const run = ({ limiter, ask }: ReturnType<(typeof kinds)[keyof typeof kinds]>) => {
    let now = 1000;
    for (let n = 0; n < 20_000; n += 1) {
      now += random();
      const key = random.pick(keys);
      for (let i = random.below(6); i >= 0; i -= 1) ask(key, now);
      if (n % 50 === 0) limiter.removePeer(random.pick(keys));
      if (n % 500 === 0) limiter.cleanup(20, 0, now);
    }
    return limiter.statistics();
  };

  test.each(Object.entries(kinds))('evicts peers of a %s before a Map is full', (_, make) => {
    const { peers, evictions } = run(make(MOST));
    expect(peers).toBeLessThanOrEqual(MOST);
    expect(evictions).toBeGreaterThan(1000);
  });

  test.each(Object.entries(kinds))(
    'throws that there is no memory if a %s may store more peers than the Map',
    (_, make) => {
      expect(() => run(make(MOST + 2))).toThrow('no memory for one more peer');
    },
  );

  test('assumes the maximum of V8’s Map, 2^24 entries', () => {
    expect(MOST_KEYS).toBe(2 ** 24 / 2);
  });
});
