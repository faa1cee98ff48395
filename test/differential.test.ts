// Both engines do the same random operations and must answer the same, to the last bit: 60,000
// operations per run. A failure prints the seed; RELAY_LIMITER_SEED=n repeats a run, and
// RELAY_LIMITER_OPERATIONS=n makes it longer.

import { isDeepStrictEqual } from 'node:util';
import {
  DirectConnectionRateLimiter,
  type EngineName,
  type LimiterSnapshot,
  OrderbookRateLimiter,
  RateLimiter,
} from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { type ManualClock, manualClock, ODD_KEYS, TESTS_NATIVE } from './support/limiters.js';
import { type Random, seeded } from './support/random.js';
import { printSeedOnFailure, SEED } from './support/seed.js';
import { comparable } from './support/snapshots.js';

const OPERATIONS = Number(process.env['RELAY_LIMITER_OPERATIONS'] ?? 60_000);
const ROUNDS = 30;
// Never reached: who would go for a newcomer is chance. But there is no room for all long keys.
const MOST = 10_000;

// To neither engine is a key of 64 KiB another thing than one of 1,000 units, but for half a millisecond.
const KEYS = ODD_KEYS.filter(({ length }) => length <= 1000);

type Limiter = RateLimiter | OrderbookRateLimiter | DirectConnectionRateLimiter;
type Call = [method: string, ...given: unknown[]];

/** A limiter to try: random options, and how likely each call on it is. */
interface Subject {
  name: string;
  create(random: Random): (engine: EngineName, clock: ManualClock) => Limiter;
  call(random: Random, key: string): Call;
}

const RATES = [0.001, 0.1, 1 / 3, 1, 2.7, 10, 500];
const SECONDS = [0, 0.1, 0.5, 3.3, 10, 33.3, 3600];
const COUNTS = [0, 1, 2, 3, 10, 50];
const COSTS = [0, 0.1, 0.5, 1, 1, 1, 2, 3.7, 1000];
const AGES = [-1, 0, 0.5, 10, 3600, Infinity];

function weighted(random: Random, calls: readonly (readonly [weight: number, call: Call])[]): Call {
  let left = random() * calls.reduce((sum, [weight]) => sum + weight, 0);
  for (const [weight, call] of calls) {
    left -= weight;
    if (left < 0) return call;
  }
  return (calls[0] as [number, Call])[1];
}

const SUBJECTS: Subject[] = [
  {
    name: 'RateLimiter',
    create(random) {
      const options = {
        rateLimit: random.pick(RATES),
        burstLimit: random.pick([0, 1, 1.5, 3, 100]),
        disconnectThreshold: random.pick([null, ...COUNTS]),
      };
      return (engine, clock) => new RateLimiter({ ...options, maxPeers: MOST, engine, clock });
    },
    call: (random, key) =>
      weighted(random, [
        [60, ['check', key]],
        [20, ['check', key, random.pick(COSTS)]],
        [20, ['open.check', key]],
        [5, ['open.check', key, random.pick(COSTS)]],
        [5, ['getDelayForPeer', key]],
        [5, ['getTokens', key]],
        [8, ['peek', key]],
        [4, ['open.peek', key, random.pick(COSTS)]],
        [5, ['getViolationCount', key]],
        [2, ['removePeer', key]],
        [0.2, ['cleanupOldPeers', random.pick(AGES)]],
        [0.5, ['getStats']],
        [0.1, ['snapshot']],
        [0.02, ['clear']],
      ]),
  },
  {
    name: 'OrderbookRateLimiter',
    create(random) {
      const options = {
        interval: random.pick(SECONDS),
        violationBanThreshold: random.pick(COUNTS),
        violationWarningThreshold: random.pick(COUNTS),
        violationSevereThreshold: random.pick(COUNTS),
        banDuration: random.pick(SECONDS),
      };
      return (engine, clock) =>
        new OrderbookRateLimiter({ ...options, maxPeers: MOST, engine, clock });
    },
    call: (random, key) =>
      weighted(random, [
        [50, ['check', key]],
        [30, ['open.check', key]],
        [8, ['isBanned', key]],
        [5, ['banSecondsLeft', key]],
        [1, ['open.banSecondsLeft', key]],
        [2, ['unban', key]],
        [4, ['getViolationCount', key]],
        [2, ['getBackoffLevel', key]],
        [1, ['removePeer', key]],
        [0.2, ['cleanupOldEntries', random.pick(AGES)]],
        [0.5, ['getStatistics']],
        [0.2, ['getBans', random.pick(COUNTS)]],
        [0.1, ['getOverview']],
        [0.1, ['snapshot']],
        [0.02, ['clear']],
      ]),
  },
  {
    name: 'DirectConnectionRateLimiter',
    create(random) {
      const options = {
        messageRatePerSec: random.pick([0, ...RATES]),
        messageBurst: random.pick([0, 1, 2.5, 20]),
        orderbookInterval: random.pick(SECONDS),
        orderbookBanThreshold: random.pick(COUNTS),
        banDuration: random.pick(SECONDS),
      };
      return (engine, clock) =>
        new DirectConnectionRateLimiter({ ...options, maxPeers: MOST, engine, clock });
    },
    call: (random, key) =>
      weighted(random, [
        [30, ['checkMessage', key]],
        [10, ['open.checkMessage', key]],
        [5, ['open.checkMessage', key, random.pick(COSTS)]],
        [20, ['open.checkOrderbook', key]],
        [10, ['checkMessage', key, random.pick(COSTS)]],
        [40, ['checkOrderbook', key]],
        [5, ['getTokens', key]],
        [8, ['isBanned', key]],
        [5, ['banSecondsLeft', key]],
        [1, ['open.banSecondsLeft', key]],
        [2, ['unban', key]],
        [4, ['getViolationCount', key]],
        [1, ['removePeer', key]],
        [0.2, ['cleanupOldEntries', random.pick(AGES)]],
        [0.5, ['getStatistics']],
        [0.2, ['getBans', random.pick(COUNTS)]],
        [0.1, ['getOverview']],
        [0.1, ['snapshot']],
        [0.02, ['clear']],
      ]),
  },
];

describe.runIf(TESTS_NATIVE)(
  'Both engines return the same results through random operations',
  () => {
    test.each(SUBJECTS)('of $name', (subject) => {
      printSeedOnFailure();
      const random = seeded(SEED);
      const each = Math.ceil(OPERATIONS / SUBJECTS.length / ROUNDS);
      for (let round = 0; round < ROUNDS; round += 1) compare(subject, random, each);
    });
  },
);

function compare(subject: Subject, random: Random, operations: number): void {
  const clock = manualClock(random() * 1e6);
  const create = subject.create(random);
  let native = create('native', clock);
  let js = create('js', clock);
  // Few peers that go far, or many that fill tables and are swept.
  const peers = random.pick([3, 40, 5000]);
  const longKeys = random() < 0.15 ? 0.02 : 0;
  for (let n = 0; n < operations; n += 1) {
    moveClock(random, clock);
    if (random() < 0.001) {
      const earlier = [native, js] as const;
      native = random() < 0.5 ? native : create('native', clock);
      js = native === earlier[0] ? js : create('js', clock);
      const snapshots = earlier.map((limiter) => limiter.snapshot());
      const restored = [native.restore(snapshots[1]), js.restore(snapshots[0])];
      expect(restored[0]).toBe(restored[1]);
    }
    if (random() < 0.0005) {
      const violations = Number.MAX_SAFE_INTEGER - random.below(3);
      const offender = { violations, banSecondsLeft: null, idleSeconds: null };
      const all = [{ key: anyKey(random, peers, longKeys), ...offender }];
      const large = { format: 1, limiter: subject.name, peers: all };
      expect(native.restore(large)).toBe(js.restore(large));
    }
    const key = anyKey(random, peers, longKeys);
    const call = subject.call(random, key);
    const ours = answer(native, call);
    const theirs = answer(js, call);
    if (!isDeepStrictEqual(ours, theirs)) {
      expect({ n, call, native: ours }).toEqual({ n, call, native: theirs });
    }
  }
}

// More than there is room for, of which some are not named: huge ones, for which there is a quarter of
// it, and others, which may take all of it.
const HUGE_KEYS = Array.from({ length: 12 }, (_, n) => `${n}`.padEnd(65_536, 'long'));
const LONG_KEYS = Array.from({ length: 600 }, (_, n) => `${n}`.padEnd(1023 + (n % 3), 'long'));

function anyKey(random: Random, peers: number, longKeys: number): string {
  const dice = random();
  if (dice < 0.1) return random.pick(KEYS);
  if (dice < 0.1 + longKeys) return random.pick(HUGE_KEYS);
  if (dice < 0.1 + longKeys * 5) return random.pick(LONG_KEYS);
  return `peer-${random.below(peers)}`;
}

/** Mostly stands still or ticks; now and then jumps, also back. */
function moveClock(random: Random, clock: ManualClock): void {
  const dice = random();
  if (dice < 0.2) clock.now += random() * 0.1;
  else if (dice < 0.22) clock.now += random() * 20;
  else if (dice < 0.2205) clock.now += 4000;
  else if (dice < 0.221) clock.now -= random() * 100;
  else if (dice < 0.22101) clock.now += 365 * 86_400;
}

/** Calls a method of the limiter, or of a peer that was opened once and is asked ever after. */
function answer(limiter: Limiter, [method, ...given]: Call): unknown {
  const [, opened] = method.split('open.');
  const subject = opened === undefined ? limiter : openedPeer(limiter, given.shift() as string);
  const call = (subject as unknown as Record<string, (...given: unknown[]) => unknown>)[
    opened ?? method
  ];
  const result = call?.apply(subject, given);
  if (typeof result !== 'object' || result === null) return result;
  // Bytes are what the engines may differ in, and the secrets of digests.
  const { memoryBytes: _, ...rest } = result as Record<string, unknown>;
  return method === 'snapshot' ? comparable(rest as unknown as LimiterSnapshot) : rest;
}

const openedPeers = new WeakMap<Limiter, Map<string, unknown>>();

function openedPeer(limiter: Limiter, key: string): unknown {
  const peers = openedPeers.get(limiter) ?? new Map<string, unknown>();
  openedPeers.set(limiter, peers);
  const peer = peers.get(key) ?? limiter.open(key);
  peers.set(key, peer);
  return peer;
}

function totalsOf(limiter: RateLimiter | DirectConnectionRateLimiter): unknown {
  const { memoryBytes: _, ...rest } =
    limiter instanceof RateLimiter ? limiter.getStats() : limiter.getStatistics();
  return rest;
}

test.runIf(TESTS_NATIVE).each([
  ['RateLimiter', RateLimiter],
  ['DirectConnectionRateLimiter', DirectConnectionRateLimiter],
])(
  'Both engines return the same results for groups of %s while peers come and go',
  (_, Limiter) => {
    printSeedOnFailure();
    const random = seeded(SEED + 1);
    const clock = manualClock();
    const options = { clock, ...(Limiter === RateLimiter && { disconnectThreshold: 20 }) };
    const limiters = [
      new Limiter({ engine: 'native', ...options }),
      new Limiter({ engine: 'js', ...options }),
    ] as const;
    const groups = limiters.map((limiter) => limiter.group(KEYS));
    const anyKey = () => (random() < 0.1 ? random.pick(KEYS) : `peer-${random.below(3000)}`);
    for (let n = 0; n < 200; n += 1) {
      clock.now += random() * 0.2;
      const cost = random.pick(COSTS);
      const [joins, leaves, comes, goes] = [60, 30, 100, 60].map((most) =>
        Array.from({ length: random.below(most) }, anyKey),
      );
      const ages = random() < 0.05 ? [5] : [];
      const verdicts = limiters.map((limiter, i) => {
        const group = groups[i] as (typeof groups)[number];
        for (const key of joins ?? []) group.add(key.length % 2 ? key : limiter.open(key));
        for (const key of leaves ?? []) group.delete(key);
        for (const key of goes ?? []) limiter.removePeer(key);
        for (const key of comes ?? []) {
          if (limiter instanceof RateLimiter) limiter.check(key);
          else limiter.checkOrderbook(key);
        }
        for (const age of ages) {
          if (limiter instanceof RateLimiter) limiter.cleanupOldPeers(age);
          else limiter.cleanupOldEntries(age);
        }
        const bytes = group.check(cost);
        return { keys: [...group.keys()], bytes, totals: totalsOf(limiter) };
      });
      if (!isDeepStrictEqual(verdicts[0], verdicts[1])) expect(verdicts[0]).toEqual(verdicts[1]);
    }
  },
);
