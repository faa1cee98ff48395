// The option `cleanup` and close(), on both engines. Timers are faked, and each slice is one step of the engine.

import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  type RateLimiterOptions,
} from 'relay-limiter';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { LimiterCore } from '../dist/engine/engine.js';
import { codeOf, ENGINES, manualClock } from './support/limiters.js';

const LIMITERS = { RateLimiter, OrderbookRateLimiter, DirectConnectionRateLimiter };

/** Most records of one step: a page of the native table, a slice of the TypeScript engine's. */
const STEP = { native: 480, js: 64 };

/** The engine's part of a limiter, of which the package's types say nothing. */
const coreOf = (limiter: RateLimiter) => (limiter as unknown as { core: LimiterCore }).core;

/** Ends each slice after one step, on a machine of any speed; `budgets` is what was allowed, in milliseconds. */
function sliceByStep(limiter: RateLimiter): { budgets: number[] } {
  const core = coreOf(limiter);
  const cleanup = core.cleanup.bind(core);
  const budgets: number[] = [];
  vi.spyOn(core, 'cleanup').mockImplementation((maxAge, budgetMs, now) => {
    budgets.push(budgetMs);
    return cleanup(maxAge, budgetMs === Infinity ? budgetMs : 0, now);
  });
  return { budgets };
}

describe.each(ENGINES)('%s', (engine) => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  /** A limiter with peers that are too old by now. */
  function create({ peers = 1, ...options }: RateLimiterOptions & { peers?: number } = {}) {
    const clock = manualClock();
    const cleanup = { maxAgeSeconds: 100, everySeconds: 10 };
    const limiter = new RateLimiter({ engine, clock, cleanup, ...options });
    for (let n = 0; n < peers; n += 1) limiter.check(`peer-${n}`);
    clock.now += 101;
    clock.reads = 0;
    return {
      ...sliceByStep(limiter),
      limiter,
      clock,
      tracked: () => limiter.getStats().trackedPeers,
    };
  }

  test('is off by default', () => {
    const limiter = new RateLimiter({ engine });
    expect(vi.getTimerCount()).toBe(0);
    limiter.close();
    expect(limiter.check('peer')[0]).toBe('allow');
  });

  test('forgets what is old, a round at a time', () => {
    const { limiter, clock, tracked } = create();
    limiter.check('young');
    vi.advanceTimersByTime(9_999);
    expect(tracked()).toBe(2);
    vi.advanceTimersByTime(1);
    expect(tracked()).toBe(1);
    clock.now += 101;
    vi.advanceTimersByTime(9_999);
    expect(tracked()).toBe(1);
    vi.advanceTimersByTime(1);
    expect(tracked()).toBe(0);
    expect(vi.getTimerCount()).toBe(1);
  });

  test('without figures, what is idle for an hour goes within a minute', () => {
    const { clock, tracked } = create({ cleanup: {} });
    vi.advanceTimersByTime(60_000);
    expect(tracked()).toBe(1);
    clock.now += 3500;
    vi.advanceTimersByTime(59_999);
    expect(tracked()).toBe(1);
    vi.advanceTimersByTime(1);
    expect(tracked()).toBe(0);
  });

  test('bans that are over go, bans in force stay', () => {
    const clock = manualClock();
    const cleanup = { maxAgeSeconds: 1, everySeconds: 1 };
    const limiters = [
      new OrderbookRateLimiter({ engine, clock, cleanup, violationBanThreshold: 0 }),
      new DirectConnectionRateLimiter({ engine, clock, cleanup, orderbookBanThreshold: 1 }),
    ];
    const [nicks, connections] = limiters as [OrderbookRateLimiter, DirectConnectionRateLimiter];
    nicks.check('peer');
    for (let n = 0; n < 2; n += 1) connections.checkOrderbook('peer');
    clock.now += 3599;
    vi.advanceTimersByTime(1000);
    for (const limiter of limiters) expect(limiter.isBanned('peer')).toBe(true);
    clock.now += 2;
    // A pass of a round may take a slice of its own.
    vi.advanceTimersByTime(1500);
    expect(nicks.getStatistics()).toMatchObject({ bannedPeers: [], totalViolations: 0 });
    expect(connections.getStatistics()).toMatchObject({ totalViolations: 0 });
  });

  test('one step visits a bounded number of records', () => {
    const { limiter, tracked } = create({ peers: 20_000, cleanup: undefined });
    for (let left = 20_000; left > 0; left = tracked()) {
      const removed = limiter.cleanupOldPeers(100, { budgetMs: 0 });
      expect(removed).toBeLessThanOrEqual(STEP[engine]);
    }
  });

  test('a round is slices of less than a millisecond, with pauses between them', () => {
    const { budgets, clock, tracked } = create({ peers: 2000 });
    vi.advanceTimersByTime(10_000);
    expect(clock.reads).toBe(1);
    let slices = 1;
    // One timer, and nothing is done before it.
    for (; tracked() > 0; slices += 1) {
      vi.advanceTimersByTime(14);
      expect(clock.reads).toBe(slices);
      vi.advanceTimersByTime(1);
      expect(clock.reads).toBe(slices + 1);
      expect(vi.getTimerCount()).toBe(1);
    }
    expect(slices).toBeGreaterThan(2000 / STEP[engine]);
    // The rest of the millisecond is for the engine's step.
    for (const budget of budgets) expect(budget).toBeLessThanOrEqual(0.5);
  });

  test('the next round begins at its time, and never within another', () => {
    const everySeconds = 0.1;
    const { clock, limiter } = create({ cleanup: { maxAgeSeconds: 100, everySeconds } });
    let more = 3;
    vi.spyOn(coreOf(limiter), 'isCleaning').mockImplementation(() => more-- > 0);
    vi.advanceTimersByTime(100 + 3 * 15);
    expect(clock.reads).toBe(4);
    vi.advanceTimersByTime(54);
    expect(clock.reads).toBe(4);
    more = 20;
    vi.advanceTimersByTime(1);
    expect(clock.reads).toBe(5);
    // Far longer than a tenth of a second: the next one follows after a pause.
    vi.advanceTimersByTime(20 * 15);
    expect(clock.reads).toBe(25);
    vi.advanceTimersByTime(15);
    expect(clock.reads).toBe(26);
  });

  test('however long or short the time between two rounds, a timer can wait it', () => {
    const { clock, limiter } = create({ cleanup: { everySeconds: Number.MAX_VALUE } });
    vi.advanceTimersByTime(24 * 86_400_000);
    expect(clock.reads).toBe(0);
    vi.advanceTimersByTime(86_400_000);
    expect(clock.reads).toBe(1);
    limiter.close();
    const short = create({ cleanup: { everySeconds: Number.MIN_VALUE } });
    vi.advanceTimersByTime(150);
    expect(short.clock.reads).toBe(10);
  });

  test('close ends it, even in the middle of a round, and the limiter goes on', () => {
    const { limiter, clock, tracked } = create({ peers: 2000 });
    vi.advanceTimersByTime(10_000);
    limiter.close();
    limiter.close();
    expect(vi.getTimerCount()).toBe(0);
    vi.advanceTimersByTime(100_000);
    expect(clock.reads).toBe(1);
    expect(limiter.check('peer')[0]).toBe('allow');
    expect(limiter.cleanupOldPeers(100)).toBeGreaterThan(0);
    expect(tracked()).toBe(1);
  });

  test('a clock that closes the limiter is obeyed', () => {
    let reads = 0;
    const clock = () => {
      reads += 1;
      limiter.close();
      return 1;
    };
    const limiter = new RateLimiter({ engine, clock, cleanup: { everySeconds: 1 } });
    vi.advanceTimersByTime(10_000);
    expect(reads).toBe(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('what a clock throws surfaces, and the next round comes', () => {
    const { limiter, clock, tracked } = create();
    const good = clock.now;
    clock.now = Number.NaN;
    expect(codeOf(() => vi.advanceTimersByTime(10_000))).toBe('ERR_LIMITER_CLOCK');
    expect(tracked()).toBe(1);
    clock.now = good;
    vi.advanceTimersByTime(10_000);
    expect(tracked()).toBe(0);
    limiter.close();
  });

  test.each(Object.entries(LIMITERS))('%s refuses a wrong schedule', (_, Limiter) => {
    const wrong = [
      null,
      true,
      60,
      [],
      { maxAge: 60 },
      { maxAgeSeconds: 0 },
      { maxAgeSeconds: Infinity },
      { everySeconds: -1 },
      { everySeconds: '60' },
      { everySeconds: Number.NaN },
    ];
    for (const cleanup of wrong) {
      const given = { engine, cleanup } as RateLimiterOptions;
      expect(codeOf(() => new Limiter(given))).toBe('ERR_LIMITER_OPTION');
    }
    expect(vi.getTimerCount()).toBe(0);
  });
});
