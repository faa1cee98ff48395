// Two keys are one peer exactly when they are ===, on both engines, whatever becomes of the table.

import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES, manualClock, ODD_KEYS } from './support/limiters.js';
import { seeded } from './support/random.js';

describe.each(ENGINES)('A key on the %s engine', (engine) => {
  const clock = manualClock();
  const create = () => new RateLimiter({ rateLimit: 1, burstLimit: 1, engine, clock });

  test('is a peer of its own, listed unchanged, for every odd string', () => {
    expect(new Set(ODD_KEYS).size).toBe(ODD_KEYS.length);
    const limiter = create();
    for (const key of ODD_KEYS) expect(limiter.check(key), key.slice(0, 20)).toEqual(['allow', 0]);
    for (const key of ODD_KEYS) {
      limiter.check(key);
      expect(limiter.getViolationCount(key)).toBe(1);
      expect(limiter.getStats().topViolators).toEqual([[key, 1]]);
      limiter.removePeer(key);
    }
    expect(limiter.getStats().trackedPeers).toBe(0);
  });

  test('is listed unchanged with a ban, for every odd string', () => {
    const book = new OrderbookRateLimiter({ violationBanThreshold: 0, engine, clock });
    for (const key of ODD_KEYS) book.check(key);
    expect(book.getStatistics().bannedPeers).toEqual(ODD_KEYS);
    const direct = new DirectConnectionRateLimiter({ orderbookBanThreshold: 1, engine, clock });
    for (const key of ODD_KEYS) for (let n = 0; n < 2; n += 1) direct.checkOrderbook(key);
    expect(direct.getStatistics().bannedConnections).toEqual(ODD_KEYS);
  });

  test('is compared by its text, however the string was built', () => {
    const limiter = create();
    const text = 'a-relay-peer-with-a-long-name:443';
    limiter.check(text);
    const variants = [
      ['a-relay-peer-with', '-a-long-name:443'].join(''),
      `${text}-and-more`.slice(0, text.length),
      Buffer.from(text).toString(),
      Buffer.from(text, 'utf16le').toString('utf16le'),
      // Held in two-byte units, since it was cut out of a string that needs them.
      `${text}\u4e00`.slice(0, -1),
      JSON.parse(JSON.stringify(text)),
      [...text].join(''),
    ];
    for (const variant of variants) expect(limiter.check(variant)[0]).toBe('delay');
    expect(limiter.getStats().trackedPeers).toBe(1);
  });

  test('of 64 KiB differs from another by its last unit, and its record has the usual size', () => {
    const limiter = create();
    const long = 'x'.repeat(65_535);
    for (let n = 0; n < 400; n += 1) limiter.check(long + String.fromCharCode(n));
    expect(limiter.getStats().trackedPeers).toBe(400);
    const { memoryBytes } = limiter.getStats();
    if (engine === 'native') expect(memoryBytes).toBeLessThan(100_000);
  });

  test('stays reachable while other peers come and go', () => {
    const random = seeded(42);
    const limiter = create();
    const live = new Set<string>();
    for (const target of [15_000, 100, 5000, 0]) {
      while (live.size < target) {
        const key = `peer-${random.below(1e9)}`;
        if (!live.has(key) && limiter.check(key)[0] !== 'allow') expect.fail(`${key} was known`);
        live.add(key);
      }
      for (const key of live) {
        if (live.size <= target) break;
        if (random() < 0.1) continue;
        limiter.removePeer(key);
        live.delete(key);
      }
      expect(limiter.getStats().trackedPeers).toBe(live.size);
      // A peer that was lost would start anew, with a full bucket and no violations.
      for (const key of live) {
        const before = limiter.getViolationCount(key);
        if (limiter.check(key)[0] !== 'delay') expect.fail(`${key} was forgotten`);
        if (limiter.getViolationCount(key) !== before + 1) expect.fail(`${key} lost violations`);
      }
    }
  });

  test('releases the memory of the table after a flood', () => {
    const limiter = create();
    // How much a Map holds, nobody tells.
    if (engine === 'js') return expect(limiter.getStats().memoryBytes).toBeUndefined();
    limiter.check('first');
    const before = limiter.getStats().memoryBytes as number;
    for (let n = 0; n < 100_000; n += 1) limiter.check(`peer-${n}`);
    const full = limiter.getStats().memoryBytes as number;
    expect(full / 100_000).toBeLessThan(50);
    expect(limiter.cleanupOldPeers(-1)).toBe(100_001);
    expect(limiter.getStats().memoryBytes).toBeLessThanOrEqual(before * 10);
    limiter.clear();
    expect(limiter.getStats().memoryBytes).toBe(0);
  });
});
