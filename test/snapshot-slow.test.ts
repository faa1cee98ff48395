// Snapshots of buckets and intervals that take longer than seconds to be as a fresh peer's: on both
// engines and between them.

import {
  DirectConnectionRateLimiter,
  type LimiterSnapshot,
  OrderbookRateLimiter,
  RateLimiter,
} from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES, manualClock } from './support/limiters.js';
import { countOf } from './support/snapshots.js';

const HOUR = 3600;
const DAY = 24 * HOUR;

// A byte a unit, two bytes a unit, nothing, more than is kept of a key.
const KEYS = ['192.0.2.1', 'ключ', '\ud800', '', 'x'.repeat(8), 'long'.repeat(50), 'ё'.repeat(300)];

const PAIRS = ENGINES.flatMap((from) => ENGINES.map((to) => [from, to] as const));

/** What goes through a file. */
const written = (snapshot: LimiterSnapshot): LimiterSnapshot =>
  JSON.parse(JSON.stringify(snapshot));

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
    for (let n = 0; n < 25_000; n += 1) before.check(`peer ${n}`, 60);
    for (let n = 0; n < 25_000; n += 1) before.check(`offender ${24_999 - n}`, n % 7 ? 101 : 100);
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
    expect(after.getTokens('peer 24999')).toBe(40);
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

describe.each(ENGINES)('A snapshot in slices on the %s engine', (engine) => {
  const clock = manualClock();
  const daily = (options: object = {}) =>
    new RateLimiter({ rateLimit: 100 / DAY, burstLimit: 100, engine, clock, ...options });
  /** The limiter that is restored of the slices of another, `between` called after each. */
  const restarted = (before: RateLimiter, between: (slice: number) => void): RateLimiter => {
    const slices: LimiterSnapshot[] = [];
    for (const slice of before.snapshotSlices()) {
      slices.push(written(slice));
      between(slices.length);
    }
    const after = daily();
    for (const _ of after.restoreSlices(slices));
    return after;
  };

  test('ends although new peers keep coming', () => {
    const before = daily();
    let come = 0;
    const arrive = () => {
      for (let n = 0; n < 1500; n += 1, come += 1) before.check(`${come}`, come % 2 ? 60 : 101);
    };
    arrive();
    arrive();
    let slices = 0;
    for (const _ of before.snapshotSlices()) {
      slices += 1;
      arrive();
      if (slices > 200) break;
    }
    expect(slices).toBeLessThan(100);
  });

  test('keeps the bucket and the violations of a peer that offends in the meantime', () => {
    // In whatever slice it offends first.
    for (let when = 1; when < 12; when += 1) {
      const before = daily();
      for (let n = 0; n < 2500; n += 1) before.check(`other ${n}`, n % 2 ? 60 : 101);
      before.check('peer', 100);
      let violations = 0;
      const after = restarted(before, (slice) => {
        if (slice === when) before.check('peer');
        violations = before.getViolationCount('peer');
      });
      expect(after.check('peer')[0]).toBe('delay');
      expect(after.getViolationCount('peer')).toBeLessThanOrEqual(violations + 1);
    }
  });

  test('keeps the new state of a peer that comes back in the meantime', () => {
    const first = daily();
    for (let n = 0; n < 2500; n += 1) first.check(`other ${n}`, 60);
    first.check('peer', 40);
    for (let when = 1; when < 12; when += 1) {
      const before = daily();
      before.restore(written(first.snapshot()));
      let isSpent = false;
      const after = restarted(before, (slice) => {
        if (slice !== when) return;
        before.check('peer', 60);
        isSpent = true;
      });
      expect(after.getTokens('peer')).toBeLessThanOrEqual(60);
      if (when === 1 && isSpent) expect(after.getTokens('peer')).toBe(0);
    }
  });

  test('keeps the ban of a peer that gets its first violation in the meantime', () => {
    const nicks = () =>
      new OrderbookRateLimiter({ violationBanThreshold: 0, banDuration: HOUR, engine, clock });
    for (let when = 1; when < 8; when += 1) {
      const before = nicks();
      const keys = Array.from({ length: 2500 }, (_, n) => `nick ${n}`);
      for (const key of keys) before.check(key);
      const slices: LimiterSnapshot[] = [];
      for (const slice of before.snapshotSlices()) {
        slices.push(written(slice));
        // A check during a ban is a violation.
        if (slices.length === when) for (const key of keys) before.check(key);
      }
      const after = nicks();
      for (const _ of after.restoreSlices(slices));
      expect(after.getBans(0).count).toBe(keys.length);
    }
  });

  test('has no peer of a cleared limiter, and uses its next secret', () => {
    const foreign = daily();
    foreign.check('foreign', 60);
    const before = daily();
    before.restore(written(foreign.snapshot()));
    before.check('cleared', 60);
    const after = restarted(before, (slice) => {
      if (slice !== 1) return;
      before.clear();
      const other = daily();
      other.check('other', 60);
      before.restore(written(other.snapshot()));
      before.check('poor', 60);
    });
    expect(after.getTokens('cleared')).toBe(100);
    expect(after.getTokens('foreign')).toBe(100);
    expect(after.getTokens('poor')).toBe(40);
  });
});

describe.each(ENGINES)('restore on the %s engine', (engine) => {
  const clock = manualClock();

  test('accepts any digests, however similar they are', () => {
    const words = (n: number) => n.toString(16).padStart(16, '0');
    const alike = [
      (n: number) => words(7) + words(n + 1),
      (n: number) => words(n + 1) + words(7),
      (n: number) => words(0) + words(n + 1),
    ];
    for (const digestOf of alike) {
      const limiter = new RateLimiter({ rateLimit: 0.01, burstLimit: 100, engine, clock });
      const peers = Array.from({ length: 5000 }, (_, n) => [digestOf(n), null, 1, 1]);
      const offender = { key: 'offender', violations: 3, banSecondsLeft: null, idleSeconds: 1 };
      const restored = limiter.restore({
        ...{ format: 2, limiter: 'RateLimiter' },
        peers: [{ ...offender, bucket: null }],
        digests: [{ secret: words(1) + words(2), peers }],
      });
      expect(restored).toBe(5001);
      expect(countOf(limiter.snapshot())).toBe(5001);
      expect(limiter.getViolationCount('offender')).toBe(3);
    }
  });

  test('of an older snapshot by key keeps the later time of a digest', () => {
    const limiters = [
      () => new OrderbookRateLimiter({ interval: HOUR, engine, clock }),
      () => new DirectConnectionRateLimiter({ orderbookInterval: HOUR, engine, clock }),
    ] as const;
    for (const make of limiters) {
      const ask = (limiter: ReturnType<typeof make>) =>
        limiter instanceof OrderbookRateLimiter
          ? limiter.check('peer')
          : limiter.checkOrderbook('peer');
      const older = make();
      ask(older);
      ask(older);
      clock.now += HOUR;
      const newer = make();
      ask(newer);
      clock.now += 60;
      const restored = make();
      restored.restore(written(newer.snapshot()));
      restored.restore(written(older.snapshot()));
      expect(ask(restored)).toBe(false);
    }
  });

  test('of invalid slices throws an error with a code', () => {
    const limiter = new RateLimiter({ engine });
    for (const slices of [5, null, {}]) {
      expect(() => limiter.restoreSlices(slices as never).next()).toThrow(
        expect.objectContaining({ code: 'ERR_LIMITER_SNAPSHOT' }),
      );
    }
    const huge = { format: 2, limiter: 'RateLimiter', peers: new Array(2 ** 32 - 1), digests: [] };
    expect(() => limiter.restore(huge)).toThrow('peers.length must be at most 67108864');
    const zero = { secret: '0'.repeat(32), peers: [['0'.repeat(32), null, 1, 1]] };
    expect(() => limiter.restore({ ...huge, peers: [], digests: [zero] })).toThrow('not all 0');
  });
});

describe.each(ENGINES)('restore on the %s engine of an invalid snapshot', (engine) => {
  const limiter = new RateLimiter({ engine });
  const digest = '0123456789abcdef'.repeat(2);
  const of = (...digests: unknown[]) => ({ format: 2, limiter: 'RateLimiter', peers: [], digests });
  const group = (...peers: unknown[]) => of({ secret: digest, peers });

  test.each<[string, unknown, string]>([
    ['no digests', { ...of(), digests: undefined }, 'digests must be an array, got undefined'],
    ['a group that is none', of(7), 'digests[0] must be an object, got 7'],
    ['a secret too short', of({ secret: 'abc', peers: [] }), 'digests[0].secret must be 32'],
    ['no peers', of({ secret: digest }), 'digests[0].peers must be an array, got undefined'],
    ['a row too short', group([digest, 1]), 'digests[0].peers[0] must be an array of'],
    ['capitals', group([digest.toUpperCase(), 1, null, null]), 'digests[0].peers[0][0] must be 32'],
    [
      'a time before',
      group([digest, -1, null, null]),
      'digests[0].peers[0][1] must be null or a finite',
    ],
    ['tokens without time', group([digest, null, 1, null]), 'digests[0].peers[0][3] must be null'],
    [
      'no tokens',
      group([digest, null, Infinity, 1]),
      'digests[0].peers[0][2] must be null or a finite',
    ],
    ['nothing', group([digest, null, null, null]), 'digests[0].peers[0] must be a digest with'],
  ])('with %s', (_, snapshot, message) => {
    for (const act of [
      () => limiter.restore(snapshot),
      () => [...limiter.restoreSlices([of(), snapshot])],
    ]) {
      expect(act).toThrow(
        expect.objectContaining({
          code: 'ERR_LIMITER_SNAPSHOT',
          message: expect.stringContaining(message),
        }),
      );
    }
    expect(countOf(limiter.snapshot())).toBe(0);
  });

  test('still reads snapshots of format 1', () => {
    const peer = { key: 'offender', violations: 3, banSecondsLeft: null, idleSeconds: 5 };
    const old = { format: 1, limiter: 'RateLimiter', peers: [peer] };
    expect(new RateLimiter({ engine }).restore(old)).toBe(1);
    expect(() => limiter.restore({ ...old, digests: [] })).toThrow('nothing else, got "digests"');
    const withBucket = { ...old, peers: [{ ...peer, bucket: null }] };
    expect(() => limiter.restore(withBucket)).toThrow('nothing else, got "bucket"');
  });

  test('keeps peers of sixteen secrets, and none of another secret', () => {
    const own = new RateLimiter({ rateLimit: 1e-3, burstLimit: 10, engine });
    own.check('known');
    const others = Array.from({ length: 17 }, (_, n) => {
      const other = new RateLimiter({ rateLimit: 1e-3, burstLimit: 10, engine });
      other.check(`peer ${n}`, 5);
      return other.snapshot();
    });
    const restored = others.map((snapshot) => own.restore(snapshot));
    expect(restored).toEqual([...Array(16).fill(1), 0]);
    expect(own.getTokens('peer 15')).toBe(5);
    expect(own.getTokens('peer 16')).toBe(10);
    // One that has come back makes place for another secret.
    own.check('peer 0', 0);
    expect(own.restore(others[16])).toBe(1);
    expect(own.getTokens('peer 16')).toBe(5);
  });
});
