// The TypeScript engine if a Map cannot store more entries. Each new entry of a call fails in turn: the call throws
// ERR_LIMITER_MEMORY, no peer is evicted for a newcomer that is not stored, every count is right, and the same call
// succeeds afterwards with the result that it would have had at first.

import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  type SnapshotPeer,
} from 'relay-limiter';
import { expect, test } from 'vitest';
import { codeOf, type ManualClock, manualClock } from './support/limiters.js';
import { comparable } from './support/snapshots.js';

type Limiter = RateLimiter | OrderbookRateLimiter | DirectConnectionRateLimiter;

// A long key is stored under an alias.
const LONG = 'newcomer'.padEnd(300, '-');
const OTHERS = ['a', 'b'.padEnd(300, '-'), 'c', 'd'.padEnd(300, '-')];
const KEYS = [...OTHERS, 'newcomer', LONG];

const times = (n: number, act: () => unknown) => {
  for (let i = 0; i < n; i += 1) act();
};

/** Runs `act` while the Map entry of that number, counted from 0, and all later entries fail. */
function without(entry: number, act: () => unknown): unknown {
  const { set } = Map.prototype;
  let left = entry;
  Map.prototype.set = function (key, value) {
    // One that is there needs no memory.
    if (!this.has(key) && left-- <= 0) throw new RangeError('Map maximum size exceeded');
    return set.call(this, key, value);
  };
  try {
    return codeOf(act);
  } finally {
    Map.prototype.set = set;
  }
}

function statsOf(limiter: Limiter) {
  const stats = limiter instanceof RateLimiter ? limiter.getStats() : limiter.getStatistics();
  const { verdicts: _, ...rest } = stats;
  return rest;
}

function stateOf(limiter: Limiter): unknown {
  const peers = KEYS.map((key) => [
    limiter.getViolationCount(key),
    'getTokens' in limiter ? limiter.getTokens(key) : undefined,
  ]);
  return { stats: statsOf(limiter), peers, snapshot: comparable(limiter.snapshot()) };
}

/** All who ever came and were not removed. */
const everKnown = (limiter: Limiter) => statsOf(limiter).peers + statsOf(limiter).evictions;

const rate = (options: object) =>
  new RateLimiter({ rateLimit: 1, burstLimit: 10, maxPeers: 4, engine: 'js', ...options });
const orderbook = (options: object) =>
  new OrderbookRateLimiter({
    ...{ interval: 10, violationBanThreshold: 3, banDuration: 100, maxPeers: 4, engine: 'js' },
    ...options,
  });
const direct = (options: object) =>
  new DirectConnectionRateLimiter({
    ...{ messageRatePerSec: 1, messageBurst: 10, orderbookBanThreshold: 3, banDuration: 100 },
    ...{ maxPeers: 4, engine: 'js' },
    ...options,
  });

const violators = (clock: ManualClock) => {
  const limiter = rate({ clock });
  for (const [i, key] of OTHERS.entries()) times(i + 1, () => limiter.check(key, 11));
  return limiter;
};
const nicks = (clock: ManualClock) => {
  const limiter = orderbook({ clock });
  for (const [i, key] of OTHERS.entries()) times(i + 2, () => limiter.check(key));
  return limiter;
};
/** Bans of which nothing else is known, and a violator; the bans are over. */
const lapsed = (clock: ManualClock) => {
  const limiter = orderbook({ clock });
  for (const key of OTHERS.slice(0, 3)) times(6, () => limiter.check(key));
  clock.now += 50;
  limiter.cleanupOldEntries(10);
  clock.now += 50;
  times(2, () => limiter.check(OTHERS[3] as string));
  return limiter;
};
const requests = (clock: ManualClock) => {
  const limiter = direct({ clock });
  for (const key of OTHERS) times(2, () => limiter.checkOrderbook(key));
  return limiter;
};
const both = (clock: ManualClock) => {
  const limiter = requests(clock);
  for (const key of OTHERS) limiter.checkMessage(key, 10);
  return limiter;
};
const messages = (clock: ManualClock) => {
  const limiter = direct({ clock });
  for (const [i, key] of OTHERS.entries()) limiter.checkMessage(key, i + 1);
  return limiter;
};
const withRoom = (clock: ManualClock) => orderbook({ clock });
const banAtOnce = (clock: ManualClock) => {
  const limiter = orderbook({ clock, violationBanThreshold: 0 });
  for (const key of OTHERS) limiter.check(key);
  clock.now += 100;
  for (const key of OTHERS) limiter.isBanned(key);
  return limiter;
};

const restored = (limiter: Limiter, key: string, more: Partial<SnapshotPeer> = {}) =>
  limiter.restore({
    format: 1,
    limiter: limiter.constructor.name,
    peers: [{ key, violations: 9, banSecondsLeft: null, idleSeconds: 1, ...more }],
  });

interface Scenario {
  name: string;
  make(clock: ManualClock): Limiter;
  act(limiter: Limiter, newcomer: string): unknown;
}

const SCENARIOS: Scenario[] = [
  {
    name: 'a refused newcomer among violators',
    make: violators,
    act: (limiter, key) => (limiter as RateLimiter).check(key, 11),
  },
  { name: 'restore among violators', make: violators, act: restored },
  {
    name: 'a nick among violators and a banned peer',
    make: nicks,
    act: (limiter, key) => (limiter as OrderbookRateLimiter).check(key),
  },
  {
    name: 'a nick among expired bans',
    make: lapsed,
    act: (limiter, key) => (limiter as OrderbookRateLimiter).check(key),
  },
  {
    name: 'a ban by the first request',
    make: banAtOnce,
    act: (limiter, key) => (limiter as OrderbookRateLimiter).check(key),
  },
  ...[withRoom, nicks, lapsed].flatMap((make): Scenario[] => [
    { name: `restore of a violator, ${make.name}`, make, act: restored },
    {
      name: `restore of a banned peer, ${make.name}`,
      make,
      act: (limiter, key) => restored(limiter, key, { banSecondsLeft: 50 }),
    },
    {
      name: `restore of a ban without violations, ${make.name}`,
      make,
      act: (limiter, key) =>
        restored(limiter, key, { violations: 0, banSecondsLeft: 50, idleSeconds: null }),
    },
  ]),
  ...[requests, both, messages].flatMap((make): Scenario[] => [
    {
      name: `a message, ${make.name}`,
      make,
      act: (limiter, key) => (limiter as DirectConnectionRateLimiter).checkMessage(key),
    },
    {
      name: `a request, ${make.name}`,
      make,
      act: (limiter, key) => (limiter as DirectConnectionRateLimiter).checkOrderbook(key),
    },
    {
      name: `restore of a banned connection, ${make.name}`,
      make,
      act: (limiter, key) => restored(limiter, key, { banSecondsLeft: 50 }),
    },
  ]),
];

test.each(SCENARIOS)('a failed Map entry loses no state: $name', ({ make, act }) => {
  for (const key of ['newcomer', LONG]) {
    const whole = make(manualClock());
    act(whole, key);
    let failures = 0;
    for (let entry = 0; ; entry += 1) {
      const limiter = make(manualClock());
      const before = stateOf(limiter);
      const known = everKnown(limiter);
      const answer = without(entry, () => act(limiter, key));
      if (answer !== 'ERR_LIMITER_MEMORY') {
        expect(answer).toEqual({ returned: expect.anything() });
        break;
      }
      failures += 1;
      // Either nothing has changed, or the newcomer is stored and one peer is evicted for it.
      if (everKnown(limiter) === known) expect(stateOf(limiter)).toEqual(before);
      else expect(everKnown(limiter)).toBe(known + 1);
      act(limiter, key);
      expect(stateOf(limiter)).toEqual(stateOf(whole));
      for (const peer of KEYS) limiter.removePeer(peer);
      const empty = { peers: 0, totalViolations: 0, unnamedOffenders: 0 };
      expect(statsOf(limiter)).toMatchObject(empty);
    }
    expect(failures).toBeGreaterThan(0);
  }
});
