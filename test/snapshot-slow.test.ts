// Snapshots of buckets and intervals that take longer than seconds to be as a fresh peer's: on both
// engines and between them.

import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES, manualClock } from './support/limiters.js';
import { countOf, written } from './support/snapshots.js';

const HOUR = 3600;
const DAY = 24 * HOUR;

// A byte a unit, two bytes a unit, nothing, more than is kept of a key.
const KEYS = ['192.0.2.1', 'ключ', '\ud800', '', 'x'.repeat(8), 'long'.repeat(50), 'ё'.repeat(300)];

const PAIRS = ENGINES.flatMap((from) => ENGINES.map((to) => [from, to] as const));

describe.each(PAIRS)('A snapshot of engine %s restored on engine %s', (from, to) => {
  const clock = manualClock();
  const daily = (engine: 'native' | 'js', options: object = {}) =>
    new RateLimiter({ rateLimit: 100 / DAY, burstLimit: 100, engine, clock, ...options });
  const nicks = (engine: 'native' | 'js') =>
    new OrderbookRateLimiter({ interval: HOUR, engine, clock });
  const connections = (engine: 'native' | 'js') =>
    new DirectConnectionRateLimiter({
      ...{ messageRatePerSec: 0.01, messageBurst: 10, orderbookInterval: HOUR },
      ...{ engine, clock },
    });

  test('keeps the tokens of peers without violations, by digest', () => {
    const before = daily(from);
    for (const [i, key] of KEYS.entries()) before.check(key, 10 + i);
    clock.now += 60;
    const saved = written(before.snapshot());
    expect(saved.peers).toEqual([]);
    expect(countOf(saved)).toBe(KEYS.length);
    const after = daily(to);
    expect(after.restore(saved)).toBe(KEYS.length);
    for (const [i, key] of KEYS.entries()) expect(after.getTokens(key)).toBe(90 - i);
    // By key, opened, and in a group: whoever comes back has what it had.
    const [first = '', second = '', ...others] = KEYS;
    clock.now += 60;
    for (const limiter of [before, after]) {
      limiter.check(first);
      limiter.open(second).check();
      limiter.group(others).check();
    }
    for (const key of KEYS) expect(after.getTokens(key)).toBe(before.getTokens(key));
    expect(after.getStats().trackedPeers).toBe(KEYS.length);
  });

  test('keeps the tokens of offenders and their violations', () => {
    const before = daily(from);
    before.check('peer', 100);
    before.check('peer');
    clock.now += 10;
    const saved = written(before.snapshot());
    expect(saved.peers).toEqual([
      {
        ...{ key: 'peer', violations: 1, banSecondsLeft: null, idleSeconds: 10 },
        bucket: { tokens: 0, idleSeconds: 10 },
      },
    ]);
    const after = daily(to);
    after.restore(saved);
    expect(after.check('peer')).toEqual(before.check('peer'));
    expect(after.getViolationCount('peer')).toBe(2);
  });

  test('keeps the intervals of peers without violations', () => {
    const before = nicks(from);
    expect(before.check('nick')).toBe(true);
    clock.now += 60;
    const after = nicks(to);
    expect(after.restore(written(before.snapshot()))).toBe(1);
    clock.now += HOUR - 61;
    expect(after.check('nick')).toBe(false);
    expect(after.getViolationCount('nick')).toBe(1);
    clock.now += 1;
    expect(after.check('nick')).toBe(true);
  });

  test('keeps buckets and intervals of connections, and restores both at once', () => {
    for (const isMessage of [true, false]) {
      const before = connections(from);
      before.checkMessage('a', 10);
      before.checkOrderbook('a');
      before.checkMessage('b', 10);
      const after = connections(to);
      after.restore(written(before.snapshot()));
      if (isMessage) expect(after.checkMessage('a')).toBe(false);
      else expect(after.checkOrderbook('a')).toBe(false);
      after.cleanupOldEntries(-1);
      // What came back is gone with the cleanup, and with it what waited of the same connection.
      expect([after.checkMessage('a', 10), after.checkOrderbook('a')]).toEqual([true, true]);
      expect(after.getStatistics().trackedConnections).toBe(1);
    }
  });

  test('omits a peer that returns to its initial state within ten seconds', () => {
    const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 20, engine: from, clock });
    limiter.check('soon', 10);
    limiter.check('late', 11);
    const saved = written(limiter.snapshot());
    expect(countOf(saved)).toBe(1);
    const after = new RateLimiter({ rateLimit: 1, burstLimit: 20, engine: to, clock });
    after.restore(saved);
    expect([after.getTokens('soon'), after.getTokens('late')]).toEqual([20, 9]);
  });

  test('survives any number of restarts, whether its peers come back or not', () => {
    let limiter = daily(from);
    limiter.check('silent', 70);
    for (let restart = 0; restart < 10; restart += 1) {
      limiter.check(`visitor ${restart}`, 50);
      clock.now += 10;
      const saved = written(limiter.snapshot());
      // One secret: restarts do not add up.
      expect(saved.digests).toHaveLength(1);
      limiter = daily(restart % 2 === 0 ? to : from);
      expect(limiter.restore(saved)).toBe(2 + restart);
    }
    expect(limiter.getTokens('silent')).toBe(30);
    expect(limiter.getTokens('visitor 3')).toBe(50);
  });

  test('is restored on a limiter that has other peers', () => {
    const before = daily(from);
    before.check('peer', 60);
    before.check('known', 60);
    const saved = written(before.snapshot());
    const after = daily(to);
    after.check('known', 10);
    const group = after.group(['peer', 'long'.repeat(50)]);
    expect(after.restore(saved)).toBe(2);
    // What came before stays as it is.
    expect([after.getTokens('peer'), after.getTokens('known')]).toEqual([40, 90]);
    group.check(0);
    expect(after.getTokens('peer')).toBe(40);
    // Two secrets now, and both are in the next snapshot.
    const again = daily(from);
    again.restore(written(after.snapshot()));
    expect([again.getTokens('peer'), again.getTokens('long'.repeat(50))]).toEqual([40, 100]);
  });

  test('is visible to groups and peer handles that were created before the restore', () => {
    const before = daily(from);
    for (const key of KEYS) before.check(key, 60);
    const after = daily(to);
    const group = after.group(KEYS);
    const peers = KEYS.map((key) => after.open(key));
    group.check(1);
    for (const peer of peers) peer.check(1);
    after.clear();
    // Its digests are the other's from here on.
    after.restore(written(before.snapshot()));
    group.check(1);
    for (const peer of peers) peer.check(1);
    for (const key of KEYS) {
      after.check(key, 1);
      expect(after.getTokens(key)).toBe(37);
    }
    expect(after.getStats().peers).toBe(KEYS.length);
  });

  test('is removed with its peer: by removePeer, clear, or in its initial state', () => {
    const before = daily(from);
    for (const key of ['removed', 'idle', 'full']) before.check(key, 60);
    const saved = written(before.snapshot());
    const after = daily(to);
    after.restore(saved);
    after.removePeer('removed');
    expect(after.getTokens('removed')).toBe(100);
    expect(after.getTokens('idle')).toBe(40);
    clock.now += 61;
    expect(after.cleanupOldPeers(60)).toBe(0);
    expect(after.getTokens('idle')).toBe(100);
    after.restore(saved);
    after.clear();
    expect(after.getTokens('full')).toBe(100);
    after.restore(saved);
    clock.now += DAY;
    after.cleanupOldPeers(Infinity);
    expect(countOf(after.snapshot())).toBe(0);
  });

  test('keeps the emptier of two buckets of one peer', () => {
    const full = daily(from);
    full.check('offender', 101);
    const spent = daily(from);
    spent.check('offender', 50);
    spent.check('offender', 101);
    const after = daily(to);
    after.check('offender', 10);
    after.restore(written(full.snapshot()));
    expect(after.getTokens('offender')).toBe(90);
    after.restore(written(spent.snapshot()));
    expect(after.getTokens('offender')).toBe(50);
  });

  test('restores at most maxPeers peers by digest', () => {
    const before = daily(from);
    for (let n = 0; n < 50; n += 1) before.check(`peer ${n}`, 60);
    const after = daily(to, { maxPeers: 20 });
    expect(after.restore(written(before.snapshot()))).toBe(20);
    expect(after.getStats().peers).toBe(0);
  });

  test('is the same in slices and in one piece', () => {
    const before = daily(from, { maxPeers: Infinity });
    for (let n = 0; n < 10_000; n += 1) before.check(`peer ${n}`, 60);
    for (let n = 0; n < 10_000; n += 1) before.check(`offender ${9999 - n}`, n % 7 ? 101 : 100);
    const slices = [...before.snapshotSlices()];
    const most = Math.max(...slices.map((slice) => countOf(slice)));
    expect(most).toBeLessThanOrEqual(1000 + 480);
    const whole = before.snapshot();
    expect(slices.flatMap(({ peers }) => peers)).toEqual(whole.peers);
    const after = daily(to, { maxPeers: Infinity });
    const restored = [...after.restoreSlices(slices.map(written))];
    // Reading changes nothing.
    expect(restored.slice(0, slices.length).every((count) => count === 0)).toBe(true);
    expect(restored.at(-1)).toBe(countOf(whole));
    expect(after.snapshot().peers).toEqual(whole.peers);
    expect(slices.length).toBeGreaterThan(10);
    expect(after.getTokens('peer 9999')).toBe(40);
  });

  test('in slices follows a limiter that is in use', () => {
    const before = daily(from);
    const count = 5000;
    for (let n = 0; n < count; n += 1) before.check(`${n}`, 101);
    const taken: number[] = [];
    const removed: number[] = [];
    for (const { peers } of before.snapshotSlices()) {
      for (const { key } of peers) taken.push(Number(key));
      // The next ones of the order go, and others come behind all.
      const next = (taken.at(-1) ?? -1) + 1;
      for (let n = next; n < Math.min(next + 10, count); n += 1) {
        before.removePeer(`${n}`);
        removed.push(n);
      }
      before.check(`${count + taken.length}`, 101);
      clock.now += 1;
    }
    const expected = Array.from({ length: count }, (_, n) => n).filter((n) => !removed.includes(n));
    expect(taken.filter((n) => n < count)).toEqual(expected);
    expect(new Set(taken).size).toBe(taken.length);
  });
});
