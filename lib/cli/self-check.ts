// The self-check of `npx relay-limiter`: both engines do the same random operations, and must answer
// the same. The tests do more of it (test/differential.test.ts); this is for the machine at hand.

import type { EngineName, LimiterSnapshot } from '../common/types.js';
import { DirectConnectionRateLimiter } from '../limiters/direct-connection-rate-limiter.js';
import { OrderbookRateLimiter } from '../limiters/orderbook-rate-limiter.js';
import { RateLimiter } from '../limiters/rate-limiter.js';

export interface SelfCheck {
  /** Which random numbers: the same seed does the same operations. */
  seed: number;
  /** Operations on which both engines agreed. */
  agreed: number;
  /** The first one on which they did not. */
  difference?: { operation: string; native: string; js: string };
}

type Limiter = RateLimiter | OrderbookRateLimiter | DirectConnectionRateLimiter;
type Call = [method: string, ...given: unknown[]];
type Random = () => number;

const ENGINES: readonly EngineName[] = ['native', 'js'];

/** What is tried: how a limiter is made, and a random call on it. */
const SUBJECTS: {
  create(options: { engine: EngineName; clock: () => number }): Limiter;
  call(random: Random, key: string): Call;
}[] = [
  {
    create: (options) =>
      new RateLimiter({ ...options, rateLimit: 2.7, burstLimit: 50, disconnectThreshold: 50 }),
    call: (random, key) =>
      oneOf(random, [
        ['check', key],
        ['check', key, random() * 20],
        ['getDelayForPeer', key],
        ['getTokens', key],
        ['removePeer', key],
        ['cleanupOldPeers', 5],
      ]),
  },
  {
    create: (options) => new OrderbookRateLimiter({ ...options, interval: 0.3, banDuration: 20 }),
    call: (random, key) =>
      oneOf(random, [
        ['check', key],
        ['isBanned', key],
        ['getBackoffLevel', key],
        ['removePeer', key],
        ['cleanupOldEntries', 5],
      ]),
  },
  {
    create: (options) => new DirectConnectionRateLimiter({ ...options, banDuration: 20 }),
    call: (random, key) =>
      oneOf(random, [
        ['checkMessage', key, random() * 3],
        ['getTokens', key],
        ['checkOrderbook', key],
        ['isBanned', key],
        ['removePeer', key],
        ['cleanupOldEntries', 5],
      ]),
  },
];

/** When a self-check ends, unless a difference ends it: after so many operations, or after so many seconds. */
export type SelfCheckLimit = { readonly operations: number } | { readonly seconds: number };

/** Operations on one pair of limiters. */
const ROUND = 5000;

/** Compares the engines. @throws `ERR_LIMITER_ENGINE` where one is missing. */
export function selfCheck(limit: SelfCheckLimit, seed: number): SelfCheck {
  const random = randomOf(seed);
  const start = performance.now();
  let agreed = 0;
  const isOver = () =>
    'operations' in limit
      ? agreed >= limit.operations
      : performance.now() - start >= limit.seconds * 1000;
  do {
    for (const subject of SUBJECTS) {
      const round = compare(subject, random, ROUND);
      agreed += round.agreed;
      if (round.difference !== undefined) return { seed, agreed, difference: round.difference };
    }
  } while (!isOver());
  return { seed, agreed };
}

function compare(
  { create, call }: (typeof SUBJECTS)[number],
  random: Random,
  operations: number,
): Omit<SelfCheck, 'seed'> {
  let now = random() * 1e6;
  const clock = () => now;
  const [native, js] = ENGINES.map((engine) => create({ engine, clock })) as [Limiter, Limiter];
  // Few peers that go far, or many that fill a table.
  const peers = random() < 0.5 ? 20 : 3000;
  for (let agreed = 0; agreed < operations; agreed += 1) {
    if (random() < 0.2) now += random() * 0.2;
    const [method, ...given] = call(random, `peer-${Math.floor(random() * peers)}`);
    const ours = answer(native, method, given);
    const theirs = answer(js, method, given);
    if (ours !== theirs) {
      const operation = `${native.constructor.name}.${method}(${given.map(show).join(', ')})`;
      return { agreed, difference: { operation, native: ours, js: theirs } };
    }
  }
  return { agreed: operations, ...differenceOfSnapshots(native, js, create, clock) };
}

/** What each engine remembers, put back by the other one. */
function differenceOfSnapshots(
  native: Limiter,
  js: Limiter,
  create: (typeof SUBJECTS)[number]['create'],
  clock: () => number,
): Pick<SelfCheck, 'difference'> {
  const [ours, theirs] = ENGINES.map((engine) => {
    const limiter = create({ engine, clock });
    limiter.restore((engine === 'native' ? js : native).snapshot());
    return withoutSecrets(limiter.snapshot());
  }) as [string, string];
  if (ours === theirs) return {};
  return {
    difference: { operation: `${native.constructor.name}.restore`, native: ours, js: theirs },
  };
}

/** A snapshot as text, but for its secrets and digests, which are each limiter's own. */
function withoutSecrets({ digests, ...rest }: LimiterSnapshot): string {
  const said = digests.flatMap(({ peers }) => peers.map(([, ...numbers]) => show(numbers)));
  return JSON.stringify({ ...rest, digests: said.sort() });
}

/** As text that tells every double from every other. */
function answer(limiter: Limiter, method: string, given: unknown[]): string {
  const call = (limiter as unknown as Record<string, (...given: unknown[]) => unknown>)[method];
  return show(call?.apply(limiter, given));
}

function show(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(show).join(', ')}]`;
  return typeof value === 'string'
    ? JSON.stringify(value)
    : Object.is(value, -0)
      ? '-0'
      : `${value}`;
}

/** The first is as likely as all others together: an attack is mostly checks. */
function oneOf(random: Random, calls: readonly Call[]): Call {
  const others = calls.length - 1;
  return calls[random() < 0.5 ? 0 : 1 + Math.floor(random() ** 3 * others)] as Call;
}

/** Numbers from 0 to below 1, the same for the same seed: xorshift32. */
function randomOf(seed: number): Random {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
