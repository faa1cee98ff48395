// RateLimiter's contract, on both engines and on a shared table.

import { RateLimitAction, RateLimiter, type RateLimiterOptions } from 'relay-limiter';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { type ManualClock, manualClock } from './support/limiters.js';
import { seeded } from './support/random.js';
import { TABLES } from './support/tables.js';

const ALLOW = ['allow', 0];
const DISCONNECT = ['disconnect', 0];

describe.each(TABLES)('RateLimiter on the $name', ({ engine, isShared, maxPeers, RateLimiter }) => {
  let clock: ManualClock;
  beforeEach(() => {
    clock = manualClock();
  });
  const create = (options: RateLimiterOptions = {}) =>
    new RateLimiter({ rateLimit: 10, burstLimit: 3, engine, clock, ...options });

  function drained(options: RateLimiterOptions = {}, key = 'peer'): RateLimiter {
    const limiter = create(options);
    while (limiter.check(key)[0] === RateLimitAction.ALLOW);
    return limiter;
  }

  test('exposes its engine and its options', () => {
    expect(create()).toMatchObject({ engine, rateLimit: 10, burstLimit: 3, maxPeers });
    expect(create().disconnectThreshold).toBeNull();
    expect(new RateLimiter({ engine })).toMatchObject({ rateLimit: 10, burstLimit: 100 });
    expect(new RateLimiter({ engine, rateLimit: 0.25, burstLimit: 0 }).burstLimit).toBe(2.5);
    // A burst below one token would never allow anything.
    expect(new RateLimiter({ engine, rateLimit: 0.01 }).burstLimit).toBe(1);
    expect(new RateLimiter({ engine, rateLimit: 1e308 }).burstLimit).toBe(Number.MAX_VALUE);
  });

  test('allows a burst, then delays the peer until the next token', () => {
    const limiter = create();
    for (let n = 0; n < 3; n += 1) expect(limiter.check('peer')).toEqual(ALLOW);
    expect(limiter.check('peer')).toEqual(['delay', 0.1]);
    clock.now += 0.0625;
    expect(limiter.check('peer')).toEqual(['delay', 0.0375]);
    clock.now += 0.0625;
    expect(limiter.check('peer')).toEqual(ALLOW);
    expect(limiter.check('other')).toEqual(ALLOW);
  });

  test('never stores more tokens than the burst', () => {
    const limiter = drained();
    clock.now += 365 * 86_400;
    for (let n = 0; n < 3; n += 1) expect(limiter.check('peer')).toEqual(ALLOW);
    expect(limiter.check('peer')[0]).toBe('delay');
  });

  test('accepts a cost of 0, a fraction or many tokens, and never allows more than the burst', () => {
    const limiter = create();
    expect(limiter.check('peer', 2.5)).toEqual(ALLOW);
    expect(limiter.check('peer', 1)).toEqual(['delay', 0.05]);
    expect(limiter.check('peer', 0.5)).toEqual(ALLOW);
    expect(limiter.check('peer', 0)).toEqual(ALLOW);
    expect(limiter.check('peer', 3)).toEqual(['delay', 0.3]);
    expect(limiter.check('peer', 3.5)).toEqual(['delay', Infinity]);
    clock.now += 1000;
    expect(limiter.check('peer', 3.5)).toEqual(['delay', Infinity]);
    expect(limiter.check('peer', 3)).toEqual(ALLOW);
  });

  test('takes no token for a refused check', () => {
    const limiter = create();
    limiter.check('peer', 2);
    expect(limiter.check('peer', 2)[0]).toBe('delay');
    expect(limiter.check('peer', 1)).toEqual(ALLOW);
  });

  test.each([
    [0, 1],
    [1, 1],
    [3, 3],
  ])('with threshold %i disconnects from violation %i on', (disconnectThreshold, from) => {
    const limiter = create({ burstLimit: 1, disconnectThreshold });
    limiter.check('peer');
    for (let n = 1; n < from; n += 1) expect(limiter.check('peer')[0]).toBe('delay');
    expect(limiter.check('peer')).toEqual(DISCONNECT);
    expect(limiter.check('peer')).toEqual(DISCONNECT);
    // Violations stay, yet a token is a token.
    clock.now += 0.125;
    expect(limiter.check('peer')).toEqual(ALLOW);
    expect(limiter.check('peer')).toEqual(DISCONNECT);
    expect(limiter.getViolationCount('peer')).toBe(from + 2);
  });

  test('never disconnects if disconnectThreshold is null', () => {
    const limiter = drained({ disconnectThreshold: null });
    for (let n = 0; n < 1000; n += 1) expect(limiter.check('peer')[0]).toBe('delay');
  });

  test('returns the delay of a peer as of its last check, and 0 for an unknown peer', () => {
    const limiter = drained();
    expect(limiter.getDelayForPeer('peer')).toBe(0.1);
    clock.now += 50;
    expect(limiter.getDelayForPeer('peer')).toBe(0.1);
    limiter.check('peer');
    expect(limiter.getDelayForPeer('peer')).toBe(0);
    expect(limiter.getDelayForPeer('stranger')).toBe(0);
    expect(limiter.getStats().trackedPeers).toBe(1);
  });

  test('returns tokens as of the last check, a full bucket for an unknown peer, and creates no peer', () => {
    const limiter = create({ rateLimit: 2, burstLimit: 5 });
    expect(limiter.getTokens('peer')).toBe(5);
    expect(limiter.getStats().trackedPeers).toBe(0);
    limiter.check('peer', 3.5);
    clock.now += 0.5;
    expect(limiter.getTokens('peer')).toBe(1.5);
    limiter.check('peer', 4);
    expect(limiter.getTokens('peer')).toBe(2.5);
  });

  test('creates no peer if it returns violations', () => {
    const limiter = create();
    expect(limiter.getViolationCount('peer')).toBe(0);
    expect(limiter.getStats().trackedPeers).toBe(0);
  });

  test('removes bucket and violations in removePeer', () => {
    const limiter = drained();
    limiter.removePeer('peer');
    limiter.removePeer('stranger');
    expect(limiter.getViolationCount('peer')).toBe(0);
    expect(limiter.getStats()).toMatchObject({ trackedPeers: 0, totalViolations: 0 });
    expect(limiter.check('peer')).toEqual(ALLOW);
  });

  test('removes the peers that are idle for longer than maxIdleSeconds, and counts them', () => {
    const limiter = create();
    limiter.check('early');
    clock.now += 1;
    for (let n = 0; n < 5; n += 1) limiter.check('late');
    clock.now += 9;
    expect(limiter.cleanupOldPeers(10)).toBe(0);
    clock.now += 0.5;
    expect(limiter.cleanupOldPeers(10)).toBe(1);
    // A refused check is activity too.
    expect(limiter.getViolationCount('late')).toBe(2);
    expect(limiter.cleanupOldPeers(Infinity)).toBe(0);
    expect(limiter.cleanupOldPeers(-1)).toBe(1);
    expect(limiter.getStats()).toMatchObject({ trackedPeers: 0, totalViolations: 0 });
    limiter.check('peer');
    clock.now += 3600.5;
    expect(limiter.cleanupOldPeers()).toBe(1);
  });

  test('continues a cleanup with a budget where the last call stopped', () => {
    const peers = 30_000;
    const limiter = create({ maxPeers: 2 * peers });
    for (let n = 0; n < peers; n += 1) limiter.check(`peer-${n}`);
    clock.now += 100;
    let removed = 0;
    let calls = 0;
    while (removed < peers && calls < peers) {
      const some = limiter.cleanupOldPeers(10, { budgetMs: 0 });
      expect(limiter.getStats().trackedPeers).toBe(peers - removed - some);
      removed += some;
      calls += 1;
    }
    expect(removed).toBe(peers);
    expect(calls).toBeGreaterThan(1);
    for (let n = 0; n < peers; n += 1) limiter.check(`peer-${n}`);
    clock.now += 100;
    expect(limiter.cleanupOldPeers(10, { budgetMs: 1e9 })).toBe(peers);
    // Whoever joins between two slices is not swept away with the old.
    for (let n = 0; n < peers; n += 1) limiter.check(`peer-${n}`);
    clock.now += 100;
    limiter.cleanupOldPeers(10, { budgetMs: 0 });
    limiter.check('newcomer', 3);
    while (limiter.getStats().trackedPeers > 1) limiter.cleanupOldPeers(10, { budgetMs: 0 });
    expect(limiter.check('newcomer')[0]).toBe('delay');
  });

  test('returns a peer handle with a read-only key', () => {
    const peer = create().open('peer') as { key: string };
    expect(() => {
      peer.key = 'other';
    }).toThrow(TypeError);
    expect(peer.key).toBe('peer');
  });

  test('skips no peer in a cleanup with a budget while other peers come and go', () => {
    const peers = 20_000;
    const limiter = create({ maxPeers: 2 * peers });
    for (let n = 0; n < peers; n += 1) limiter.check(`old-${n}`);
    clock.now += 100;
    const gone = new Set<number>();
    const random = seeded(1);
    let removed = 0;
    let newcomers = 0;
    // One pass, and what it takes to come to its end.
    for (let call = 0; call < peers && limiter.getStats().trackedPeers > newcomers; call += 1) {
      removed += limiter.cleanupOldPeers(50, { budgetMs: 0 });
      for (let i = 0; i < 50; i += 1) {
        const n = random.below(peers);
        const before = limiter.getStats().trackedPeers;
        limiter.removePeer(`old-${n}`);
        if (limiter.getStats().trackedPeers < before) gone.add(n);
      }
      limiter.check(`new-${newcomers}`);
      newcomers += 1;
    }
    expect(removed + gone.size).toBe(peers);
    expect(limiter.getStats().trackedPeers).toBe(newcomers);
    expect(gone.size).toBeGreaterThan(10);
  });

  test('lists the ten peers with the most violations, ties by the first violation', () => {
    const limiter = create({ burstLimit: 1 });
    const offend = (key: string, times: number) => {
      for (let n = 0; n <= times; n += 1) limiter.check(key);
    };
    limiter.check('good');
    for (let n = 1; n <= 12; n += 1) offend(`p${n}`, n <= 6 ? 2 : n);
    expect(limiter.getStats()).toMatchObject({
      trackedPeers: 13,
      totalViolations: 69,
      topViolators: [
        ['p12', 12],
        ['p11', 11],
        ['p10', 10],
        ['p9', 9],
        ['p8', 8],
        ['p7', 7],
        ['p1', 2],
        ['p2', 2],
        ['p3', 2],
        ['p4', 2],
      ],
    });
    limiter.removePeer('p1');
    offend('p1', 2);
    expect(
      limiter
        .getStats()
        .topViolators.slice(6)
        .map(([key]) => key),
    ).toEqual(['p2', 'p3', 'p4', 'p5']);
  });

  test('removes every peer in clear', () => {
    const limiter = drained();
    limiter.clear();
    expect(limiter.getStats()).toMatchObject({
      trackedPeers: 0,
      totalViolations: 0,
      topViolators: [],
    });
    expect(limiter.check('peer')).toEqual(ALLOW);
  });

  test('returns one frozen result for ALLOW and one for DISCONNECT', () => {
    const limiter = create({ burstLimit: 2, disconnectThreshold: 0 });
    const allowed = limiter.check('peer');
    expect(limiter.check('peer')).toBe(allowed);
    expect(Object.isFrozen(allowed)).toBe(true);
    expect(limiter.check('peer')).toBe(limiter.check('peer'));
  });

  test('returns the same results for a peer handle and for its key, whatever happens to the table', () => {
    const limiter = create();
    const peer = limiter.open('peer');
    expect(peer.key).toBe('peer');
    expect(limiter.getStats().trackedPeers).toBe(0);
    expect(peer.check(2)).toEqual(ALLOW);
    expect(limiter.check('peer')).toEqual(ALLOW);
    expect(peer.check()).toEqual(['delay', 0.1]);
    for (let n = 0; n < 20_000; n += 1) limiter.check(`other-${n}`);
    expect(peer.check()).toEqual(['delay', 0.1]);
    limiter.removePeer('peer');
    expect(peer.check(3)).toEqual(ALLOW);
    limiter.clear();
    expect(peer.check(3)).toEqual(ALLOW);
    expect(limiter.check('peer')[0]).toBe('delay');
  });

  test('grants the rate to a peer that polls at any interval, neither more nor less', () => {
    for (const step of [1e-6, 1e-4, 1 / 3000, 0.001, 0.07]) {
      // Room for what comes between two polls, so that none of it is lost.
      const limiter = create({ rateLimit: 7, burstLimit: 2 });
      const start = clock.now;
      let granted = 0;
      for (let n = 0; n < 50_000; n += 1) {
        clock.now += step;
        if (limiter.check('peer')[0] === RateLimitAction.ALLOW) granted += 1;
      }
      const due = 2 + (clock.now - start) * 7;
      expect(granted).toBeLessThanOrEqual(due + 1e-6);
      expect(granted).toBeGreaterThan(due - 2);
    }
  });

  test('allows a peer that waits the delay and one microsecond', () => {
    const limiter = create({ rateLimit: 1 / 3, burstLimit: 1 });
    limiter.check('peer');
    for (let n = 0; n < 1000; n += 1) {
      clock.now += Math.abs(Math.sin(n)) * 0.5;
      const [action, delay] = limiter.check('peer');
      if (action === RateLimitAction.ALLOW) continue;
      clock.now += delay + 1e-6;
      expect(limiter.check('peer')).toEqual(ALLOW);
    }
  });

  test('grants no extra token if the clock stands still, steps back or leaps ahead', () => {
    const limiter = drained();
    expect(limiter.check('peer')).toEqual(['delay', 0.1]);
    clock.now -= 1000;
    expect(limiter.check('peer')).toEqual(['delay', 0.1]);
    clock.now += isShared ? 1000.125 : 0.125;
    expect(limiter.check('peer')).toEqual(ALLOW);
    clock.now += 365 * 86_400;
    expect(limiter.check('peer', 3)).toEqual(ALLOW);
    expect(limiter.check('peer')[0]).toBe('delay');
  });

  test('reads the clock at most once per call', () => {
    const limiter = create();
    clock.reads = 0;
    limiter.check('peer');
    expect(clock.reads).toBe(1);
    limiter.cleanupOldPeers();
    expect(clock.reads).toBe(2);
    limiter.group(['a', 'b', 'c']).check();
    expect(clock.reads).toBe(3);
    limiter.removePeer('a');
    limiter.getViolationCount('a');
    limiter.getDelayForPeer('b');
    limiter.getTokens('b');
    limiter.clear();
    expect(clock.reads).toBe(3);
  });

  test('reads no clock for statistics', () => {
    const limiter = create({ clock: () => Number.NaN });
    expect(limiter.getStats().trackedPeers).toBe(0);
  });
});

test('RateLimiter takes the budget of a cleanup on the TypeScript engine in milliseconds', () => {
  const clock = manualClock();
  const limiter = new RateLimiter({ engine: 'js', clock });
  for (let n = 0; n < 1000; n += 1) limiter.check(`peer-${n}`);
  clock.now += 100;
  // Each step, of 64 peers, takes a millisecond.
  let milliseconds = 1000;
  vi.spyOn(performance, 'now').mockImplementation(() => milliseconds++);
  const removed = limiter.cleanupOldPeers(10, { budgetMs: 3 });
  vi.restoreAllMocks();
  expect(removed).toBe(3 * 64);
});
