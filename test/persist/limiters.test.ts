// Bans outlive a restart: limiters of both engines are saved to files and loaded by both engines.

import {
  DirectConnectionRateLimiter,
  type EngineName,
  OrderbookRateLimiter,
  RateLimiter,
} from 'relay-limiter';
import { loadSnapshot, saveSnapshot } from 'relay-limiter/persist';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ENGINES, type ManualClock, manualClock, ODD_KEYS } from '../support/limiters.js';
import { codeOfRejection, testFolder } from './support.js';

const folder = testFolder();
const START = 1_700_000_000_000;
const PAIRS = ENGINES.flatMap((from) => ENGINES.map((to): [EngineName, EngineName] => [from, to]));

describe.each(PAIRS)('saved by %s, loaded by %s', (from, to) => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['Date'], now: START });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  const banning = (engine: EngineName, clock: ManualClock) =>
    new OrderbookRateLimiter({ engine, clock, violationBanThreshold: 2, banDuration: 600 });

  /** Saves, and loads `seconds` later by the wall clock. The monotonic clock starts again, as in a new process. */
  async function restarted(limiter: OrderbookRateLimiter, seconds: number) {
    await saveSnapshot(limiter, folder.file());
    vi.setSystemTime(START + seconds * 1000);
    const clock = manualClock(5);
    const next = banning(to, clock);
    return { clock, next, count: await loadSnapshot(next, folder.file()) };
  }

  function withBans(keys: readonly string[]) {
    const clock = manualClock();
    const limiter = banning(from, clock);
    for (const key of keys) for (let n = 0; n < 4; n += 1) limiter.check(key);
    return { limiter, clock };
  }

  // Both engines write the same snapshots, so the large number is needed only between engines.
  const many = from === to ? 1000 : 20_000;
  test(`every ban of ${many} is there`, async () => {
    const keys = Array.from({ length: many }, (_, n) => `nick-${n}`);
    const { next, count } = await restarted(withBans(keys).limiter, 0);
    expect(count).toBe(keys.length);
    expect(keys.every((key) => next.isBanned(key))).toBe(true);
    expect(next.getStatistics().bannedPeers).toEqual(keys);
  });

  test('bans end on time, including the time between save and load', async () => {
    const { limiter, clock } = withBans(ODD_KEYS.slice(0, 20));
    clock.now += 100;
    const { next, clock: nextClock } = await restarted(limiter, 200);
    nextClock.now += 299.9;
    for (const key of ODD_KEYS.slice(0, 20)) expect(next.isBanned(key)).toBe(true);
    nextClock.now += 0.2;
    for (const key of ODD_KEYS.slice(0, 20)) expect(next.check(key)).toBe(true);
  });

  test('bans are not extended by a wall clock that went back', async () => {
    const { limiter, clock } = withBans(['nick']);
    clock.now += 100;
    const { next, clock: nextClock } = await restarted(limiter, -1e6);
    nextClock.now += 499.9;
    expect(next.isBanned('nick')).toBe(true);
    nextClock.now += 0.2;
    expect(next.isBanned('nick')).toBe(false);
  });

  test('peers with an expired ban start without violations', async () => {
    const { next, count } = await restarted(withBans(['nick']).limiter, 600);
    expect(count).toBe(0);
    expect(next.getViolationCount('nick')).toBe(0);
    expect(next.check('nick')).toBe(true);
  });

  test('limiters of all three classes are restored', async () => {
    const clock = manualClock();
    const options = { clock, maxPeers: 10 };
    const makers = {
      rate: (engine: EngineName) =>
        new RateLimiter({ ...options, engine, rateLimit: 1, burstLimit: 1 }),
      book: (engine: EngineName) =>
        new OrderbookRateLimiter({ ...options, engine, violationBanThreshold: 0 }),
      direct: (engine: EngineName) =>
        new DirectConnectionRateLimiter({ ...options, engine, orderbookBanThreshold: 1 }),
    };
    const before = {
      rate: makers.rate(from),
      book: makers.book(from),
      direct: makers.direct(from),
    };
    for (let n = 0; n < 3; n += 1) {
      before.rate.check('peer');
      before.book.check('peer');
      before.direct.checkOrderbook('peer');
    }
    const after = { rate: makers.rate(to), book: makers.book(to), direct: makers.direct(to) };
    for (const name of ['rate', 'book', 'direct'] as const) {
      await saveSnapshot(before[name], folder.file(name));
      expect(await loadSnapshot(after[name], folder.file(name))).toBe(1);
    }
    expect(after.rate.getViolationCount('peer')).toBe(2);
    expect(after.book.isBanned('peer')).toBe(true);
    expect(after.direct.isBanned('peer')).toBe(true);
    const wrong = loadSnapshot(after.rate, folder.file('book'));
    expect(await codeOfRejection(wrong)).toBe('ERR_LIMITER_SNAPSHOT');
    expect(after.rate.getStats()).toMatchObject({ totalViolations: 2 });
  });
});
