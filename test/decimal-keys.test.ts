// Keys of digits: V8 takes them for indices of an array, and some versions that the package accepts hash those
// without a secret. So no Map or Set of the package is given one, and every key is still a peer of its own.

import {
  DirectConnectionRateLimiter,
  type LimiterSnapshot,
  OrderbookRateLimiter,
  RateLimiter,
} from 'relay-limiter';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { jsEngine } from '../dist/engine/js/index.js';
import { BucketQueues } from '../dist/guard/bucket-queue.js';
import { LocalBans } from '../dist/redis/bans/local-bans.js';
import { FallbackBuckets } from '../dist/redis/limit/fallback-buckets.js';
import { LeaseRecords } from '../dist/redis/limit/lease-records.js';
import { KeyMap } from '../dist/tables/key-map.js';
import { ENGINES, manualClock } from './support/limiters.js';

/** Indices of an array, the smallest and the largest among them. */
const INDICES = ['0', '7', '10', '65536', '131072', '4294967294'];
/** Keys that only look like one, or like what stands for one. */
const OTHERS = [
  '',
  '00',
  '01',
  '-1',
  '1.0',
  '1e3',
  '1a',
  '\u0661',
  '4294967295',
  '12345678901',
  '\0',
  '\x000',
  '\x007',
  '\0\x007',
  `\0${'k'.repeat(127)}`,
  `\0${'k'.repeat(128)}`,
];
const KEYS = [...INDICES, ...OTHERS];

describe('no Map or Set gets an array index as a key', () => {
  let given: unknown[] = [];

  beforeEach(() => {
    given = [];
    for (const method of ['get', 'set', 'has', 'delete'] as const) watch(Map.prototype, method);
    for (const method of ['add', 'has', 'delete'] as const) watch(Set.prototype, method);
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });

  function watch(prototype: object, method: string): void {
    const methods = prototype as Record<string, (...args: unknown[]) => unknown>;
    const real = methods[method] as (...args: unknown[]) => unknown;
    vi.spyOn(methods, method).mockImplementation(function (this: unknown, ...args) {
      // Without a method that is watched.
      given[given.length] = args[0];
      return real.apply(this, args);
    });
  }

  function expectNoIndices(): void {
    const keys = [...given];
    vi.restoreAllMocks();
    const isIndex = (key: unknown) => typeof key === 'string' && INDICES.includes(key);
    expect(keys.filter(isIndex)).toEqual([]);
  }

  describe.each(ENGINES)('on the %s engine', (engine) => {
    const options = { engine, clock: manualClock() };

    test('from the limiters, for peers, offenders, bans, groups and snapshots', () => {
      const rate = new RateLimiter({ ...options, rateLimit: 1, burstLimit: 1 });
      const book = new OrderbookRateLimiter({ ...options, violationBanThreshold: 1 });
      const direct = new DirectConnectionRateLimiter({ ...options, orderbookBanThreshold: 1 });
      for (const key of INDICES) {
        for (let n = 0; n < 3; n += 1) {
          rate.check(key);
          rate.open(key).check();
          book.check(key);
          book.open(key).check();
          direct.checkMessage(key);
          direct.checkOrderbook(key);
        }
      }
      const group = rate.group(INDICES);
      group.check();
      for (const key of INDICES) group.delete(key);
      for (const limiter of [rate, book, direct]) {
        const snapshot: LimiterSnapshot = limiter.snapshot();
        limiter.getOverview();
        for (const key of INDICES) limiter.getViolationCount(key);
        for (const key of INDICES) limiter.removePeer(key);
        limiter.restore(snapshot);
      }
      rate.cleanupOldPeers(-1);
      book.cleanupOldEntries(-1);
      direct.cleanupOldEntries(-1);
      expectNoIndices();
    });
  });

  test('from leases, fallback buckets, shared bans and bucket queues', () => {
    const leases = new LeaseRecords(jsEngine.leaseTable());
    const limit = {
      ...{ rateLimit: 1, burstLimit: 1, disconnectThreshold: null },
      ...{ leaseSeconds: 1, shortLeaseSeconds: 1 },
    };
    const shares = new FallbackBuckets(limit, 1, 100, 0);
    const book = new LocalBans(4);
    const queues = new BucketQueues();
    const waiter = { becomeFirst() {}, limiterChanged() {} };
    for (const key of INDICES) {
      leases.insert(key);
      leases.spend(key, 1);
      leases.delete(key);
      shares.take(key, 1, 0);
      book.add({ key, seconds: 1, violations: 1 }, { here: 0, fleet: 0 });
      book.add({ key, seconds: 0, violations: 2 }, { here: 0, fleet: 0 });
      queues.join('', key, waiter);
      queues.hasWaiters('', key);
      queues.leave('', key, waiter);
    }
    book.all(0);
    expectNoIndices();
  });
});

describe.each(ENGINES)('A limiter on the %s engine', (engine) => {
  test('stores keys of digits, and keys that look like them, as separate peers', () => {
    expect(new Set(KEYS).size).toBe(KEYS.length);
    const options = { engine, clock: manualClock() };
    const limiter = new RateLimiter({ ...options, rateLimit: 1, burstLimit: 1 });
    const book = new OrderbookRateLimiter({ ...options, violationBanThreshold: 0 });
    const group = limiter.group();
    for (const key of KEYS) {
      expect(limiter.check(key)).toEqual(['allow', 0]);
      expect(limiter.open(key).check()[0]).toBe('delay');
      book.check(key);
      group.add(key);
    }
    expect(limiter.snapshot().peers.map(({ key }) => key)).toEqual(KEYS);
    expect(book.getStatistics().bannedPeers).toEqual(KEYS);
    expect([...group.keys()]).toEqual(KEYS);
    expect([...group.check()]).toEqual(KEYS.map(() => 1));
    const restored = new RateLimiter(options);
    expect(restored.restore(limiter.snapshot())).toBe(KEYS.length);
    expect(restored.snapshot()).toEqual(limiter.snapshot());
  });
});

describe('KeyMap', () => {
  test('behaves like Map, with the same order of entries', () => {
    const keyMap = new KeyMap<number>();
    const map = new Map<string, number>();
    for (const [n, key] of [...KEYS, ...KEYS].entries()) {
      keyMap.set(key, n);
      map.set(key, n);
      if (n % 3 === 0)
        expect(keyMap.delete(KEYS[n % 7] as string)).toBe(map.delete(KEYS[n % 7] as string));
    }
    expect([...keyMap]).toEqual([...map]);
    expect([...keyMap.entries()]).toEqual([...map]);
    expect([...keyMap.keys()]).toEqual([...map.keys()]);
    expect([...keyMap.values()]).toEqual([...map.values()]);
    expect(keyMap.size).toBe(map.size);
    for (const key of KEYS) {
      expect([keyMap.get(key), keyMap.has(key)]).toEqual([map.get(key), map.has(key)]);
    }
    keyMap.clear();
    expect(keyMap.size).toBe(0);
  });
});
