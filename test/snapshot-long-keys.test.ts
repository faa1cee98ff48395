// Offenders with keys that are too long to store: snapshots omit them, and the memory for keys is bounded.

import { type LimiterOptions, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES, manualClock } from './support/limiters.js';

const times = (n: number, act: () => unknown) => {
  for (let i = 0; i < n; i += 1) act();
};

describe.each(ENGINES)('A snapshot on the %s engine', (engine) => {
  const clock = manualClock();
  const rate = (options: LimiterOptions) =>
    new RateLimiter({ rateLimit: 1, burstLimit: 1, engine, clock, ...options });
  const orderbook = (options: LimiterOptions) =>
    new OrderbookRateLimiter({
      ...{ interval: 10, violationBanThreshold: 3, banDuration: 64, engine, clock },
      ...options,
    });

  test('omits offenders with a key that is too long to store', () => {
    // 1 MiB is the room: two of 64 Ki units are a quarter of it.
    const limiter = orderbook({ maxPeers: 1000 });
    const long = (n: number) => `${n}`.padEnd(65_536, 'x');
    const offend = (key: string) => times(3, () => limiter.check(key));
    const short = Array.from({ length: 100 }, (_, n) => `${n}`.padStart(128, '-'));
    for (let n = 0; n < 10; n += 1) offend(long(n));
    for (const key of short) offend(key);
    expect(limiter.getStatistics()).toMatchObject({ unnamedOffenders: 8, totalViolations: 220 });
    const names = () => limiter.snapshot().peers.map(({ key }) => key);
    expect(names()).toEqual([long(0), long(1), ...short]);
    // Decided once: what becomes free is for others.
    limiter.removePeer(long(1));
    limiter.check(long(9));
    offend(long(10));
    offend(long(11));
    expect(limiter.getStatistics()).toMatchObject({ unnamedOffenders: 9, totalViolations: 223 });
    expect(names()).toContain(long(10));
    expect(names()).not.toContain(long(9));
    times(2, () => limiter.check(long(9)));
    expect(limiter.isBanned(long(9))).toBe(true);
    expect(limiter.getStatistics()).toMatchObject({ bannedPeers: [] });
    expect(limiter.getBans()).toEqual({ count: 1, bans: [] });
    expect(limiter.getStatistics().topViolators.map(([key]) => key)).not.toContain(long(9));
    limiter.removePeer(long(9));
    expect(limiter.getStatistics().unnamedOffenders).toBe(8);
    limiter.clear();
    expect(limiter.getStatistics()).toMatchObject({ unnamedOffenders: 0, totalViolations: 0 });
    offend(long(0));
    expect(names()).toEqual([long(0)]);
  });

  test('stores keys above 1,024 units in a quarter of the memory for keys, other long keys in all of it', () => {
    const limiter = rate({ maxPeers: 1000 });
    const offend = (n: number, length: number) => limiter.check(`${n}`.padStart(length, '-'), 2);
    // 1 MiB is 512 keys of 1,024 units; a quarter 127 of 1,025 and some bytes.
    for (let n = 0; n < 200; n += 1) offend(n, 1025);
    expect(limiter.snapshot().peers).toHaveLength(127);
    for (let n = 0; n < 500; n += 1) offend(n, 1024);
    expect(limiter.snapshot().peers).toHaveLength(127 + 384);
    expect(limiter.getStats().unnamedOffenders).toBe(73 + 116);
    // Where others take the quarter there is none for huge ones.
    limiter.clear();
    for (let n = 0; n < 127; n += 1) offend(n, 1024);
    offend(0, 2000);
    expect(limiter.getStats().unnamedOffenders).toBe(1);
    offend(0, 129);
    expect(limiter.getStats().unnamedOffenders).toBe(1);
  });

  test('stays within the memory for keys in a flood of offenders with keys of 64 KiB', () => {
    const limiter = rate({ maxPeers: 100 });
    // Some 64 MiB of text.
    for (let n = 0; n < 500; n += 1) {
      times(2, () => limiter.check(`${n}`.padEnd(65_536, 'x')));
    }
    const { unnamedOffenders, memoryBytes, peers } = limiter.getStats();
    expect(peers).toBe(100);
    expect(unnamedOffenders).toBeGreaterThanOrEqual(100 - 2);
    if (engine === 'native') expect(memoryBytes).toBeLessThan(2 ** 18 + 100_000);
  });
});
