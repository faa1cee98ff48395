// The option `cleanup` and close(), on both engines. No real time: timers and `performance.now()` are faked, and
// where slices are counted the engine's cleanup is a stub.

import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  type RateLimiterOptions,
} from 'relay-limiter';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { LimiterCore } from '../dist/engine/engine.js';
import { BackgroundCleanup, Scheduler, scheduler } from '../dist/limiters/background-cleanup.js';
import { codeOf, ENGINES, manualClock } from './support/limiters.js';

const LIMITERS = { RateLimiter, OrderbookRateLimiter, DirectConnectionRateLimiter };
/** Milliseconds between two slices. */
const PAUSE = 15;

/** Most records of one step: a page of the native table, a slice of the TypeScript engine's. */
const STEP = { native: 480, js: 64 };

/** What a test has made, and must close. */
const made: { close(): void }[] = [];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  // One of the test's own, which no other file's limiters are in.
  const own = new Scheduler();
  vi.spyOn(scheduler, 'add').mockImplementation((cleanup) => own.add(cleanup));
  vi.spyOn(scheduler, 'delete').mockImplementation((cleanup) => own.delete(cleanup));
});
afterEach(() => {
  for (const { close } of made.splice(0)) close();
  const timers = vi.getTimerCount();
  vi.useRealTimers();
  vi.restoreAllMocks();
  expect(timers).toBe(0);
});

function closedAtEnd<T extends { close(): void }>(limiter: T): T {
  made.push({ close: () => limiter.close() });
  return limiter;
}

/** A limiter that needs so many slices for a round, and says when it got them. */
function stub(name: string, slicesARound: number, { everySeconds = 10, cost = 0 } = {}) {
  const got: string[] = [];
  let left = 0;
  const limiter = {
    core: {
      cleanup(maxAge: number, budgetMs: number, now: number | undefined) {
        got.push(`${name} ${performance.now() - started}`);
        expect([maxAge, now]).toEqual([100, 7]);
        expect(budgetMs).toBeCloseTo(0.5);
        vi.advanceTimersByTime(cost);
        left = left === 0 ? slicesARound - 1 : left - 1;
        return 0;
      },
      isCleaning: () => left > 0,
    } as Partial<LimiterCore> as LimiterCore,
    now: (): number => 7,
  };
  const started = performance.now();
  const cleanup = new BackgroundCleanup(limiter, { maxAgeSeconds: 100, everySeconds });
  made.push({ close: () => cleanup.stop() });
  return { limiter, cleanup, got };
}

describe('A background cleanup gives a limiter', () => {
  test('a round every everySeconds, in slices with pauses between them', () => {
    const { got } = stub('a', 3);
    vi.advanceTimersByTime(9_999);
    expect(got).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(got).toEqual(['a 10000']);
    vi.advanceTimersByTime(10_000);
    expect(got).toEqual(['a 10000', 'a 10015', 'a 10030', 'a 20000']);
  });

  test('no overlapping rounds: after a round that takes too long the next begins after a pause', () => {
    const { got } = stub('a', 4, { everySeconds: 0.05 });
    vi.advanceTimersByTime(200);
    const times = [50, 65, 80, 95, 110, 125, 140, 155, 170, 185, 200];
    expect(got).toEqual(times.map((time) => `a ${time}`));
  });

  test('a round at least every 24 days, and at most after each pause', () => {
    const { got, cleanup } = stub('a', 1, { everySeconds: Number.MAX_VALUE });
    vi.advanceTimersByTime(2 ** 31 - 2);
    expect(got).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(got).toHaveLength(1);
    cleanup.stop();
    const short = stub('b', 1, { everySeconds: Number.MIN_VALUE });
    vi.advanceTimersByTime(150);
    expect(short.got).toHaveLength(10);
  });
});

describe('The background cleanups of many limiters', () => {
  test('share one slice if their rounds are short', () => {
    const all = ['a', 'b', 'c'].map((name) => stub(name, 1));
    vi.advanceTimersByTime(10_000);
    expect(all.map(({ got }) => got)).toEqual([['a 10000'], ['b 10000'], ['c 10000']]);
    expect(vi.getTimerCount()).toBe(1);
  });

  test('share one timer, and one slice every pause, in turns', () => {
    const all = ['a', 'b', 'c'].map((name) => stub(name, 2, { cost: 1 }));
    expect(vi.getTimerCount()).toBe(1);
    const order: string[] = [];
    for (let time = 0; time < 10_200; time += 1) {
      vi.advanceTimersByTime(1);
      const slices = all.flatMap(({ got }) => got.splice(0));
      expect(slices.length).toBeLessThanOrEqual(1);
      order.push(...slices);
      expect(vi.getTimerCount()).toBe(1);
    }
    const expected = ['a 10000', 'b 10016', 'c 10032', 'a 10048', 'b 10064', 'c 10080'];
    expect(order).toEqual(expected);
  });

  test('pause after a slice, however long it took', () => {
    const [a, b] = [stub('a', 2, { cost: 40 }), stub('b', 1)];
    vi.advanceTimersByTime(10_200);
    expect(a.got).toEqual(['a 10000', 'a 10055']);
    expect(b.got).toEqual(['b 10055']);
  });

  test('do not block each other: the others run during a round that never ends', () => {
    const [endless, b] = [stub('a', Infinity), stub('b', 1, { everySeconds: 20 })];
    vi.advanceTimersByTime(40_100);
    expect(b.got).toHaveLength(2);
    expect(endless.got.length).toBeGreaterThan(1990);
  });

  test('begin at their own times, in any order of creation', () => {
    const [late, soon] = [stub('a', 1, { everySeconds: 30 }), stub('b', 1, { everySeconds: 20 })];
    vi.advanceTimersByTime(19_999);
    expect(soon.got).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(soon.got).toEqual(['b 20000']);
    vi.advanceTimersByTime(10_000);
    expect(late.got).toEqual(['a 30000']);
  });

  test('continue if one is closed, and the timer ends with the last', () => {
    const [a, b] = [stub('a', 3), stub('b', 3)];
    vi.advanceTimersByTime(10_000);
    a.cleanup.stop();
    a.cleanup.stop();
    expect(vi.getTimerCount()).toBe(1);
    vi.advanceTimersByTime(1_000);
    expect(a.got).toHaveLength(1);
    expect(b.got).toHaveLength(3);
    b.cleanup.stop();
    expect(vi.getTimerCount()).toBe(0);
  });

  test('continue if the clock of one throws, which is an uncaught exception', () => {
    const [a, b] = [stub('a', 1), stub('b', 1)];
    a.limiter.now = () => {
      throw new Error('no time');
    };
    expect(() => vi.advanceTimersByTime(10_000)).toThrow('no time');
    vi.advanceTimersByTime(15);
    expect(b.got).toEqual(['b 10015']);
    // The next round comes all the same.
    expect(() => vi.advanceTimersByTime(10_000)).toThrow('no time');
  });

  test('keep their pause if a clock creates another limiter', () => {
    const a = stub('a', 2);
    const others: ReturnType<typeof stub>[] = [];
    a.limiter.now = () => {
      others.push(stub('b', 1, { everySeconds: Number.MIN_VALUE }));
      return 7;
    };
    vi.advanceTimersByTime(10_000);
    expect(vi.getTimerCount()).toBe(1);
    vi.advanceTimersByTime(14);
    expect(others[0]?.got).toEqual([]);
    vi.advanceTimersByTime(1);
    expect([...a.got, ...(others[0]?.got ?? [])]).toEqual(['a 10000', 'a 10015', 'b 15']);
  });

  test('end if their limiter is garbage-collected', () => {
    // What the collector does to it: a WeakRef that leads nowhere any more.
    const deref = vi.spyOn(WeakRef.prototype, 'deref');
    const { got } = stub('a', 1);
    deref.mockReturnValue(undefined);
    vi.advanceTimersByTime(10_000);
    expect(got).toEqual([]);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe.each(ENGINES)('A background cleanup on the %s engine', (engine) => {
  /** A limiter with peers that are too old by now. */
  function create({ peers = 1, ...options }: RateLimiterOptions & { peers?: number } = {}) {
    const clock = manualClock();
    const cleanup = { maxAgeSeconds: 100, everySeconds: 10 };
    const limiter = closedAtEnd(new RateLimiter({ engine, clock, cleanup, ...options }));
    for (let n = 0; n < peers; n += 1) limiter.check(`peer-${n}`);
    clock.now += 101;
    clock.reads = 0;
    return { limiter, clock, tracked: () => limiter.getStats().trackedPeers };
  }

  test('is off by default', () => {
    const limiter = new RateLimiter({ engine });
    expect(vi.getTimerCount()).toBe(0);
    limiter.close();
    expect(limiter.check('peer')[0]).toBe('allow');
  });

  test('removes old peers, one round at a time', () => {
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

  test('removes peers that are idle for an hour within a minute by default', () => {
    const { clock, tracked } = create({ cleanup: {} });
    vi.advanceTimersByTime(60_000);
    expect(tracked()).toBe(1);
    clock.now += 3500;
    vi.advanceTimersByTime(59_999);
    expect(tracked()).toBe(1);
    vi.advanceTimersByTime(1);
    expect(tracked()).toBe(0);
  });

  test('removes expired bans, and keeps bans in force', () => {
    const clock = manualClock();
    const cleanup = { maxAgeSeconds: 1, everySeconds: 1 };
    const options = { engine, clock, cleanup };
    const nicks = closedAtEnd(new OrderbookRateLimiter({ ...options, violationBanThreshold: 0 }));
    const connections = closedAtEnd(
      new DirectConnectionRateLimiter({ ...options, orderbookBanThreshold: 1 }),
    );
    nicks.check('peer');
    for (let n = 0; n < 2; n += 1) connections.checkOrderbook('peer');
    clock.now += 3599;
    vi.advanceTimersByTime(1000);
    for (const limiter of [nicks, connections]) expect(limiter.isBanned('peer')).toBe(true);
    clock.now += 2;
    // Each pass of a round may take a slice of its own.
    vi.advanceTimersByTime(2000);
    expect(nicks.getStatistics()).toMatchObject({ bannedPeers: [], totalViolations: 0 });
    expect(connections.getStatistics()).toMatchObject({ totalViolations: 0 });
  });

  test('visits a bounded number of records per step', () => {
    const { limiter, tracked } = create({ peers: 20_000, cleanup: undefined });
    for (let left = 20_000; left > 0; left = tracked()) {
      const removed = limiter.cleanupOldPeers(100, { budgetMs: 0 });
      expect(removed).toBeLessThanOrEqual(STEP[engine]);
    }
  });

  test.each(Object.entries(LIMITERS))('has more to do if %s.isCleaning is true', (_, Limiter) => {
    const clock = manualClock();
    const limiter = new Limiter({ engine, clock });
    const cleanup = (limits?: { budgetMs: number }) =>
      limiter instanceof RateLimiter
        ? limiter.cleanupOldPeers(1e9, limits)
        : limiter.cleanupOldEntries(1e9, limits);
    for (let n = 0; n < 3 * STEP[engine]; n += 1) {
      if (limiter instanceof DirectConnectionRateLimiter) limiter.checkMessage(`peer-${n}`);
      else limiter.check(`peer-${n}`);
    }
    expect(limiter.isCleaning).toBe(false);
    cleanup({ budgetMs: 0 });
    expect(limiter.isCleaning).toBe(true);
    let calls = 1;
    for (; limiter.isCleaning; calls += 1) cleanup({ budgetMs: 0 });
    expect(calls).toBeGreaterThan(2);
    cleanup({ budgetMs: 0 });
    cleanup();
    expect(limiter.isCleaning).toBe(false);
    cleanup({ budgetMs: 0 });
    limiter.clear();
    expect(limiter.isCleaning).toBe(false);
    expect(() => Object.assign(limiter, { isCleaning: true })).toThrow(TypeError);
  });

  test('continues a round until isCleaning is false', () => {
    const { limiter, clock } = create();
    const { core } = limiter as unknown as { core: LimiterCore };
    let more = 3;
    vi.spyOn(core, 'isCleaning').mockImplementation(() => more-- > 0);
    vi.advanceTimersByTime(10_000 + 10 * PAUSE);
    expect(clock.reads).toBe(4);
  });

  test('ends with close, also during a round, and the limiter can still be used', () => {
    const { limiter, clock, tracked } = create();
    const { core } = limiter as unknown as { core: LimiterCore };
    const cleanup = vi.spyOn(core, 'cleanup').mockReturnValue(0);
    const isCleaning = vi.spyOn(core, 'isCleaning').mockReturnValue(true);
    vi.advanceTimersByTime(10_000);
    limiter.close();
    limiter.close();
    expect(vi.getTimerCount()).toBe(0);
    vi.advanceTimersByTime(100_000);
    expect(clock.reads).toBe(1);
    cleanup.mockRestore();
    isCleaning.mockRestore();
    expect(limiter.check('another')[0]).toBe('allow');
    expect(limiter.cleanupOldPeers(100)).toBe(1);
    expect(tracked()).toBe(1);
  });

  test('ends if the clock closes the limiter', () => {
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

  test('makes an exception of the clock an uncaught exception, and starts the next round', () => {
    const { clock, tracked } = create();
    const good = clock.now;
    clock.now = Number.NaN;
    expect(codeOf(() => vi.advanceTimersByTime(10_000))).toBe('ERR_LIMITER_CLOCK');
    expect(tracked()).toBe(1);
    clock.now = good;
    vi.advanceTimersByTime(10_000);
    expect(tracked()).toBe(0);
  });

  test.each(Object.entries(LIMITERS))('throws for an invalid schedule of a %s', (_, Limiter) => {
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
