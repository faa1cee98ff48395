// Both engines do the same random operations and must answer the same, to the last bit: a million
// operations a run. The seed is printed; RELAY_LIMITER_SEED=n repeats a run, and
// RELAY_LIMITER_OPERATIONS=n makes it longer.

import { isDeepStrictEqual } from 'node:util';
import {
  DirectConnectionRateLimiter,
  type EngineName,
  OrderbookRateLimiter,
  RateLimiter,
} from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { type ManualClock, manualClock, ODD_KEYS } from './support/limiters.js';
import { type Random, seeded } from './support/random.js';

const SEED = Number(process.env['RELAY_LIMITER_SEED'] ?? Math.floor(Math.random() * 2 ** 32));
const OPERATIONS = Number(process.env['RELAY_LIMITER_OPERATIONS'] ?? 1_000_000);
const ROUNDS = 30;

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
      return (engine, clock) => new RateLimiter({ ...options, engine, clock });
    },
    call: (random, key) =>
      weighted(random, [
        [60, ['check', key]],
        [20, ['check', key, random.pick(COSTS)]],
        [5, ['getDelayForPeer', key]],
        [5, ['getViolationCount', key]],
        [2, ['removePeer', key]],
        [0.2, ['cleanupOldPeers', random.pick(AGES)]],
        [0.5, ['getStats']],
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
      return (engine, clock) => new OrderbookRateLimiter({ ...options, engine, clock });
    },
    call: (random, key) =>
      weighted(random, [
        [80, ['check', key]],
        [8, ['isBanned', key]],
        [4, ['getViolationCount', key]],
        [2, ['getBackoffLevel', key]],
        [1, ['removePeer', key]],
        [0.2, ['cleanupOldEntries', random.pick(AGES)]],
        [0.5, ['getStatistics']],
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
      return (engine, clock) => new DirectConnectionRateLimiter({ ...options, engine, clock });
    },
    call: (random, key) =>
      weighted(random, [
        [40, ['checkMessage', key]],
        [10, ['checkMessage', key, random.pick(COSTS)]],
        [40, ['checkOrderbook', key]],
        [8, ['isBanned', key]],
        [4, ['getViolationCount', key]],
        [1, ['removePeer', key]],
        [0.2, ['cleanupOldEntries', random.pick(AGES)]],
        [0.5, ['getStatistics']],
        [0.02, ['clear']],
      ]),
  },
];

describe(`seed ${SEED}`, () => {
  test.each(SUBJECTS)('$name', (subject) => {
    console.log(`differential: ${subject.name}, RELAY_LIMITER_SEED=${SEED}`);
    const random = seeded(SEED);
    const each = Math.ceil(OPERATIONS / SUBJECTS.length / ROUNDS);
    for (let round = 0; round < ROUNDS; round += 1) compare(subject, random, each);
  });
});

function compare(subject: Subject, random: Random, operations: number): void {
  const clock = manualClock(random() * 1e6);
  const create = subject.create(random);
  const native = create('native', clock);
  const js = create('js', clock);
  // Few peers that go far, or many that fill tables and are swept.
  const peers = random.pick([3, 40, 5000]);
  for (let n = 0; n < operations; n += 1) {
    moveClock(random, clock);
    const key = random() < 0.1 ? random.pick(ODD_KEYS) : `peer-${random.below(peers)}`;
    const call = subject.call(random, key);
    const ours = answer(native, call);
    const theirs = answer(js, call);
    if (!isDeepStrictEqual(ours, theirs)) {
      expect({ n, call, native: ours }).toEqual({ n, call, native: theirs });
    }
  }
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

function answer(limiter: Limiter, [method, ...given]: Call): unknown {
  const call = (limiter as unknown as Record<string, (...given: unknown[]) => unknown>)[method];
  const result = call?.apply(limiter, given);
  if (typeof result !== 'object' || result === null) return result;
  // Bytes are what the engines may differ in.
  const { memoryBytes: _, ...rest } = result as Record<string, unknown>;
  return rest;
}

test.each([RateLimiter, DirectConnectionRateLimiter])('groups of a %o', (Limiter) => {
  const random = seeded(SEED + 1);
  const clock = manualClock();
  const native = new Limiter({ engine: 'native', clock });
  const js = new Limiter({ engine: 'js', clock });
  const groups = [native.group(ODD_KEYS), js.group(ODD_KEYS)];
  for (let n = 0; n < 500; n += 1) {
    clock.now += random() * 0.2;
    const cost = random.pick(COSTS);
    const key = random.pick(ODD_KEYS);
    for (const limiter of [native, js]) {
      if (limiter instanceof DirectConnectionRateLimiter) limiter.checkOrderbook(key);
      else limiter.check(key);
    }
    const [ours, theirs] = groups.map((group) => group.check(cost));
    expect(ours).toEqual(theirs);
  }
});
