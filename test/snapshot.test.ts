// snapshot() and restore(), on both engines and between them.

import {
  DirectConnectionRateLimiter,
  type LimiterOptions,
  type LimiterSnapshot,
  OrderbookRateLimiter,
  RateLimiter,
  type SnapshotDigest,
  type SnapshotPeer,
} from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES, manualClock, ODD_KEYS, otherEngine } from './support/limiters.js';
import { seeded } from './support/random.js';
import { printSeedOnFailure, SEED } from './support/seed.js';
import { comparable, countOf } from './support/snapshots.js';

type Limiter = RateLimiter | OrderbookRateLimiter | DirectConnectionRateLimiter;

/** What goes through a file. */
const written = (limiter: Limiter): LimiterSnapshot =>
  JSON.parse(JSON.stringify(limiter.snapshot()));

const times = (n: number, act: () => unknown) => {
  for (let i = 0; i < n; i += 1) act();
};

describe.each(ENGINES)('A snapshot on the %s engine', (engine) => {
  const other = otherEngine(engine);
  const clock = manualClock();
  const rate = (options: LimiterOptions & { burstLimit?: number } = {}) =>
    new RateLimiter({ rateLimit: 1, burstLimit: 1, engine, clock, ...options });
  const orderbook = (
    options: LimiterOptions & { violationBanThreshold?: number; interval?: number } = {},
  ) =>
    new OrderbookRateLimiter({
      interval: 10,
      violationBanThreshold: 3,
      banDuration: 64,
      engine,
      clock,
      ...options,
    });
  const direct = (options: LimiterOptions = {}) =>
    new DirectConnectionRateLimiter({
      orderbookBanThreshold: 3,
      banDuration: 64,
      engine,
      clock,
      ...options,
    });
  const peer = (
    key: string,
    violations: number,
    more: Partial<SnapshotPeer> = {},
  ): SnapshotPeer => ({
    ...{ key, violations, banSecondsLeft: null, idleSeconds: null, bucket: null },
    ...more,
  });
  const of = (limiter: LimiterSnapshot['limiter'], ...peers: SnapshotPeer[]): LimiterSnapshot => ({
    format: 2,
    limiter,
    peers,
    digests: [],
  });

  test('lists every offender, and no other peer, by key', () => {
    const limiter = rate();
    limiter.check('honest');
    times(3, () => limiter.check('b'));
    clock.now += 4;
    times(2, () => limiter.check('a'));
    clock.now += 2;
    expect(limiter.snapshot()).toEqual(
      of('RateLimiter', peer('b', 2, { idleSeconds: 6 }), peer('a', 1, { idleSeconds: 2 })),
    );
  });

  test('lists bans with their seconds left, and no expired bans', () => {
    for (const limiter of [orderbook(), direct()]) {
      const check = (key: string) =>
        limiter instanceof OrderbookRateLimiter ? limiter.check(key) : limiter.checkOrderbook(key);
      const name = limiter instanceof OrderbookRateLimiter ? 'OrderbookRateLimiter' : undefined;
      check('offender');
      times(5, () => check('over'));
      clock.now += 60;
      times(5, () => check('banned'));
      clock.now += 2;
      check('offender');
      check('offender');
      clock.now += 2;
      const violations = name === undefined ? 4 : 3;
      expect(limiter.snapshot()).toEqual(
        of(
          name ?? 'DirectConnectionRateLimiter',
          peer('banned', violations, { banSecondsLeft: 60, idleSeconds: 4 }),
          peer('offender', 1, { idleSeconds: 2 }),
        ),
      );
      // Reading it has changed nothing.
      expect(limiter.getViolationCount('over')).toBe(violations);
    }
  });

  test('restores a limiter that returns the same results as the saved limiter', () => {
    const before = orderbook();
    before.check('offender');
    times(2, () => before.check('offender'));
    times(6, () => before.check('banned'));
    clock.now += 5;
    const saved = written(before);
    const after = orderbook({ engine: other });
    expect(after.restore(saved)).toBe(2);
    expect(after.snapshot()).toEqual(saved);
    expect(after.getStatistics()).toMatchObject({
      peers: 2,
      trackedPeers: 2,
      bannedPeers: ['banned'],
      totalViolations: 2 + (saved.peers[1]?.violations ?? 0),
      bansBegun: 0,
      verdicts: { allow: 0, delay: 0, disconnect: 0 },
    });
    for (const limiter of [before, after]) {
      clock.now += 0;
      expect(limiter.isBanned('banned')).toBe(true);
      expect(limiter.check('offender')).toBe(false);
    }
    clock.now += 59 - 2 ** -20;
    for (const limiter of [before, after]) expect(limiter.isBanned('banned')).toBe(true);
    clock.now += 2 ** -20;
    for (const limiter of [before, after]) {
      expect(limiter.isBanned('banned')).toBe(false);
      expect(limiter.check('banned')).toBe(true);
    }
  });

  test('survives a round trip through the other engine and JSON', () => {
    printSeedOnFailure();
    const random = seeded(SEED);
    for (let round = 0; round < 20; round += 1) {
      const create = random.pick([
        (name: 'native' | 'js') => rate({ engine: name }),
        (name: 'native' | 'js') => orderbook({ engine: name, violationBanThreshold: round % 3 }),
        (name: 'native' | 'js') => direct({ engine: name }),
      ]);
      const first = create(engine);
      for (let n = 0; n < 3000; n += 1) {
        // Such numbers are representable, and so are their sums.
        if (random() < 0.1) clock.now += random.below(100) / 64;
        const key = random() < 0.2 ? random.pick(ODD_KEYS) : `peer-${random.below(60)}`;
        if (random() < 0.01) first.removePeer(key);
        if (first instanceof RateLimiter) first.check(key, random() * 2);
        else if (first instanceof OrderbookRateLimiter) first.check(key);
        else first.checkOrderbook(key);
      }
      const second = create(other);
      const saved = written(first);
      expect(second.restore(saved)).toBe(countOf(saved));
      const third = create(engine);
      expect(third.restore(written(second))).toBe(countOf(saved));
      expect(comparable(second.snapshot())).toEqual(comparable(saved));
      expect(comparable(third.snapshot())).toEqual(comparable(saved));
      const named = (limiter: Limiter) => {
        if (limiter instanceof RateLimiter) return limiter.getStats().topViolators;
        const { topViolators, ...rest } = limiter.getStatistics();
        return [topViolators, 'bannedPeers' in rest ? rest.bannedPeers : rest.bannedConnections];
      };
      expect(named(second)).toEqual(named(third));
      // The others' statistics know bans that are over, until a check or a cleanup finds them.
      if (first instanceof RateLimiter) expect(named(second)).toEqual(named(first));
    }
  });

  test('lists bans in the order in which they began', () => {
    const first = orderbook({ violationBanThreshold: 1 });
    times(2, () => first.check('offended first'));
    for (const key of ['a', 'b', 'c', 'offended first']) {
      times(3, () => first.check(key));
      clock.now += 1;
    }
    const second = orderbook({ engine: other });
    second.restore(written(first));
    expect(second.getStatistics().bannedPeers).toEqual(['a', 'b', 'c', 'offended first']);
    expect(second.getStatistics().bannedPeers).toEqual(first.getStatistics().bannedPeers);
  });

  test('is merged with known peers: the larger number of violations, the longer ban', () => {
    const limiter = orderbook();
    times(6, () => limiter.check('long'));
    times(6, () => limiter.check('short'));
    times(3, () => limiter.check('offender'));
    clock.now += 32;
    const restored = limiter.restore(
      of(
        'OrderbookRateLimiter',
        peer('long', 1, { banSecondsLeft: 8 }),
        peer('short', 9, { banSecondsLeft: 1000 }),
        peer('offender', 1),
        peer('new', 2),
      ),
    );
    expect(restored).toBe(4);
    expect(limiter.snapshot().peers).toEqual([
      peer('long', 4, { banSecondsLeft: 32, idleSeconds: 32 }),
      // No longer than bans last here.
      peer('short', 9, { banSecondsLeft: 64, idleSeconds: 32 }),
      peer('offender', 2, { idleSeconds: 32 }),
      peer('new', 2),
    ]);
    // A ban that is over is none, and does not come to life again.
    clock.now += 64;
    limiter.restore(of('OrderbookRateLimiter', peer('long', 2)));
    expect(limiter.isBanned('long')).toBe(false);
    expect(limiter.getViolationCount('long')).toBe(2);
  });

  test.each([
    [
      rate,
      { bucket: { tokens: 0.75, idleSeconds: 0 } },
      { bucket: { tokens: 0.5, idleSeconds: 0 } },
    ],
    [orderbook, { banSecondsLeft: 8, idleSeconds: 1 }, { banSecondsLeft: 32, idleSeconds: 3 }],
    [
      direct,
      { banSecondsLeft: 32, bucket: { tokens: 3, idleSeconds: 0 } },
      { bucket: { tokens: 7, idleSeconds: 1 } },
    ],
  ] as const)(
    'merges two entries of one peer as two calls of restore do: %o',
    (create, one, two) => {
      const { limiter: name } = create().snapshot();
      const entries = [peer('twice', 3, one), peer('once', 1), peer('twice', 5, two)];
      for (const order of [entries, [...entries].reverse()]) {
        const joined = create();
        expect(joined.restore(of(name, ...order))).toBe(3);
        const apart = create();
        for (const entry of order) apart.restore(of(name, entry));
        expect(comparable(joined.snapshot())).toEqual(comparable(apart.snapshot()));
        // Both entries take one place.
        const full = create({ maxPeers: 2 });
        full.restore(of(name, ...order));
        expect(['twice', 'once'].map((key) => full.getViolationCount(key))).toEqual([5, 1]);
      }
    },
  );

  test('keeps the later time of two entries under one digest', () => {
    const secret = '0123456789abcdef'.repeat(2);
    const digest = 'f'.repeat(32);
    const [later, earlier] = [3, 8].map((idle): SnapshotDigest => [digest, idle, null, null]);
    for (const peers of [
      [later, earlier],
      [earlier, later],
    ] as SnapshotDigest[][]) {
      for (const digests of [[{ secret, peers }], peers.map((one) => ({ secret, peers: [one] }))]) {
        const limiter = orderbook({ interval: 100 });
        limiter.restore({ ...of('OrderbookRateLimiter'), digests });
        expect(limiter.snapshot().digests).toEqual([{ secret, peers: [later] }]);
      }
    }
  });

  test('restores no ban with 0 seconds left, and calls onBan for no ban', () => {
    const heard: string[] = [];
    const limiter = direct({ onBan: ({ key }) => heard.push(key) });
    const snapshot = of(
      'DirectConnectionRateLimiter',
      peer('over', 3, { banSecondsLeft: 0 }),
      peer('banned', 3, { banSecondsLeft: 1 }),
    );
    expect(limiter.restore(snapshot)).toBe(1);
    expect(heard).toEqual([]);
    expect(limiter.getStatistics()).toMatchObject({ peers: 1, bannedConnections: ['banned'] });
    expect(limiter.checkMessage('banned')).toBe(false);
    limiter.cleanupOldEntries(-1);
    expect(limiter.isBanned('banned')).toBe(true);
    clock.now += 1;
    expect(limiter.checkOrderbook('banned')).toBe(true);
  });

  test('restores a ban without violations', () => {
    const first = orderbook({ violationBanThreshold: 0 });
    for (const key of ['b', 'a']) first.check(key);
    const saved = written(first);
    expect(saved.peers).toEqual([
      peer('b', 0, { banSecondsLeft: 64 }),
      peer('a', 0, { banSecondsLeft: 64 }),
    ]);
    const second = orderbook({ engine: other });
    expect(second.restore(saved)).toBe(2);
    expect(second.getStatistics()).toMatchObject({ peers: 2, trackedPeers: 0 });
    expect(second.snapshot()).toEqual(saved);
  });

  test('restores the peers that rank first if the limiter becomes full', () => {
    const peers = Array.from({ length: 100 }, (_, n) =>
      peer(`${n}`, 1 + ((n * 37) % 100), n % 20 === 0 ? { banSecondsLeft: 5 } : {}),
    );
    const worst = peers
      .filter(({ banSecondsLeft, violations }) => banSecondsLeft !== null || violations > 95)
      .map(({ key }) => key);
    for (const limiter of [orderbook({ maxPeers: 10 }), direct({ maxPeers: 10 })]) {
      const name = limiter.constructor.name as 'OrderbookRateLimiter';
      const count = limiter.restore(of(name, ...peers));
      expect(count).toBe(10);
      expect(limiter.getStatistics()).toMatchObject({ peers: 10, refusedNewcomers: 0 });
      const kept = limiter.snapshot().peers.map(({ key }) => key);
      expect(new Set(worst).size).toBe(10);
      expect(new Set(kept)).toEqual(new Set(worst));
    }
    const equals = [peer('100', 5, { idleSeconds: 100 }), peer('1', 5, { idleSeconds: 1 })];
    equals.push(peer('?', 5), peer('0', 5, { idleSeconds: 0 }));
    const one = rate({ maxPeers: 1 });
    expect(one.restore(of('RateLimiter', ...equals))).toBe(1);
    expect(one.snapshot().peers).toEqual([peer('0', 5, { idleSeconds: 0 })]);
    expect(one.getStats().evictions).toBe(0);
    const limiter = rate({ maxPeers: 3 });
    times(8, () => limiter.check('here'));
    limiter.check('unpunished');
    expect(limiter.restore(of('RateLimiter', peer('5', 5), peer('9', 9), peer('6', 6)))).toBe(2);
    expect(limiter.getStats().topViolators).toEqual([
      ['9', 9],
      ['here', 7],
      ['6', 6],
    ]);
  });

  test('throws if it is invalid, and changes nothing', () => {
    const good = peer('good', 1);
    const name = 'OrderbookRateLimiter' as const;
    const limiter = orderbook();
    times(2, () => limiter.check('known'));
    const before = limiter.snapshot();
    const wrong: [unknown, string][] = [
      [undefined, 'a snapshot must be an object, got undefined'],
      [null, 'a snapshot must be an object, got null'],
      ['{}', 'a snapshot must be an object, got "{}"'],
      [[], 'a snapshot must be an object, got an array'],
      [{}, 'format must be 1 or 2, got undefined'],
      [{ ...of(name, good), format: 3 }, 'format must be 1 or 2, got 3'],
      [of('RateLimiter', good), 'limiter must be "OrderbookRateLimiter", got "RateLimiter"'],
      [
        { ...of(name, good), at: 1 },
        'a snapshot must have format, limiter, peers, digests and nothing else',
      ],
      [{ ...of(name), peers: {} }, 'peers must be an array, got an object'],
      [
        { ...of(name), peers: Object.assign([good], { length: 2 }) },
        'peers[1] must be an object, got undefined',
      ],
      [of(name, good, null as never), 'peers[1] must be an object, got null'],
      [of(name, good, { ...good, key: 7 as never }), 'peers[1].key must be a string, got 7'],
      ...[-1, 0.5, Number.NaN, 2 ** 53, '1', null, undefined].map(
        (violations): [unknown, string] => [
          of(name, good, peer('bad', violations as number)),
          'peers[1].violations must be a whole number from 0 to 2^53 - 1, got',
        ],
      ),
      ...(['banSecondsLeft', 'idleSeconds'] as const).flatMap((field) =>
        [-1, Number.NaN, Infinity, '1', undefined].map((value): [unknown, string] => [
          of(name, good, peer('bad', 1, { [field]: value })),
          `peers[1].${field} must be null or a finite number of at least 0, got`,
        ]),
      ),
      [of(name, good, peer('bad', 0)), 'peers[1].violations must be at least 1 without a ban'],
      [
        of(name, good, { ...peer('bad', 1), banned: true } as never),
        'peers[1] must have key, violations, banSecondsLeft, idleSeconds, bucket and nothing else, got "banned"',
      ],
    ];
    for (const [snapshot, message] of wrong) {
      expect(() => limiter.restore(snapshot)).toThrow(
        expect.objectContaining({
          code: 'ERR_LIMITER_SNAPSHOT',
          message: expect.stringContaining(message),
        }),
      );
    }
    const banned = of('RateLimiter', peer('a', 1, { banSecondsLeft: 0 }));
    expect(() => rate().restore(banned)).toThrow('peers[0].banSecondsLeft must be null');
    expect(limiter.snapshot()).toEqual(before);
    expect(limiter.getStatistics().peers).toBe(1);
  });

  test('restores twenty thousand offenders', () => {
    const limiter = direct();
    const count = 20_000;
    for (let n = 0; n < count; n += 1) times(4, () => limiter.checkOrderbook(`peer-${n}`));
    const saved = written(limiter);
    expect(saved.peers).toHaveLength(count);
    const restored = direct({ engine: other });
    expect(restored.restore(saved)).toBe(count);
    for (let n = 0; n < count; n += 997) expect(restored.isBanned(`peer-${n}`)).toBe(true);
    expect(restored.getStatistics().bannedConnections).toHaveLength(count);
  });
});
