// The self-check of `npx relay-limiter`: both engines run the same random operations and must return bit-identical
// results. It checks the machine on which it runs; test/differential.test.ts compares the engines more thoroughly.

import type { EngineName, LimiterSnapshot } from '../common/types.js';
import { DirectConnectionRateLimiter } from '../limiters/direct-connection-rate-limiter.js';
import { OrderbookRateLimiter } from '../limiters/orderbook-rate-limiter.js';
import { RateLimiter } from '../limiters/rate-limiter.js';
import { RuleLimiter } from '../rules/rule-limiter.js';
import type { RuleSnapshot } from '../rules/types.js';

/** The result of a self-check. */
export interface SelfCheck {
  /** The seed of the random operations: the same seed repeats them. */
  seed: number;
  /** The number of operations with the same result on both engines. */
  agreed: number;
  /** The first operation with different results. */
  difference?: { operation: string; native: string; js: string };
}

type Limiter = RateLimiter | OrderbookRateLimiter | DirectConnectionRateLimiter | RuleLimiter;
type Call = [method: string, ...given: unknown[]];
type Random = () => number;

const ENGINES: readonly EngineName[] = ['native', 'js'];

/** The limiters to compare: `create` makes one, `call` chooses a random call of it. */
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
        ['peek', key],
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
        ['banSecondsLeft', key],
        ['unban', key],
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
        ['banSecondsLeft', key],
        ['unban', key],
        ['removePeer', key],
        ['cleanupOldEntries', 5],
      ]),
  },
  {
    create: createRuleLimiter,
    call: (random, key) => {
      const keys = { connection: key, account: key.slice(0, -1) };
      const cost = { requests: random() * 20, bytes: random() * 200 };
      return oneOf(random, [
        ['check', keys, random() * 20],
        ['check', keys, cost, 'login'],
        ['check', { connection: key }, cost, 'login', 'paid'],
        ['peek', keys, cost, 'login'],
        ['banSecondsLeft', 'account', keys.account],
        ['getBans', 'account', 10],
        ['charge', keys, cost],
        ['refund', keys, cost, 'login', 'paid'],
        ['unban', 'account', keys.account],
        ['removePeer', keys],
        ['cleanup', 5],
      ]);
    },
  },
];

function createRuleLimiter(options: { engine: EngineName; clock: () => number }): RuleLimiter {
  return new RuleLimiter({
    ...options,
    scopes: { connection: {}, account: {}, server: { single: true } },
    rules: {
      messages: { scope: 'connection', rateLimit: 2.7, burstLimit: 50, warnBelow: 0.3 },
      bytes: { scope: 'connection', unit: 'bytes', rateLimit: 31, burstLimit: 300, dryRun: true },
      logins: { scope: 'account', action: 'login', quota: 30, windowSeconds: 7 },
      everybody: { scope: 'server', rateLimit: 1e4, burstLimit: 1e5 },
    },
    plans: { paid: { messages: { burstLimit: 90 }, logins: null } },
    bans: {
      account: {
        violations: 4,
        withinSeconds: 30,
        seconds: [3, 20],
        jitter: 0.3,
        forgetAfterSeconds: 9,
      },
    },
    // Equal on both engines.
    random: randomOf(1),
  });
}

/** The end of a self-check without a difference: after at least so many operations, or after so many seconds. */
export type SelfCheckLimit = { readonly operations: number } | { readonly seconds: number };

/** The number of operations on one pair of limiters. */
const ROUND_OPERATIONS = 5000;

/** Compares the engines in whole rounds. @throws `ERR_LIMITER_ENGINE` if an engine is unavailable. */
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
      const round = compare(subject, random, ROUND_OPERATIONS);
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
  // Few peers reach violations and bans; many peers fill the tables.
  const peers = random() < 0.5 ? 20 : 3000;
  for (let agreed = 0; agreed < operations; agreed += 1) {
    if (random() < 0.2) now += random() * 0.2;
    const [method, ...given] = call(random, `peer-${Math.floor(random() * peers)}`);
    const nativeResult = resultText(native, method, given);
    const jsResult = resultText(js, method, given);
    if (nativeResult !== jsResult) {
      const operation = `${native.constructor.name}.${method}(${given.map(show).join(', ')})`;
      return { agreed, difference: { operation, native: nativeResult, js: jsResult } };
    }
  }
  return { agreed: operations, ...differenceOfSnapshots(native, js, create, clock) };
}

/** Restores the snapshot of each engine on the other engine, and compares the snapshots of the results. */
function differenceOfSnapshots(
  native: Limiter,
  js: Limiter,
  create: (typeof SUBJECTS)[number]['create'],
  clock: () => number,
): Pick<SelfCheck, 'difference'> {
  const [nativeText, jsText] = ENGINES.map((engine) => {
    const limiter = create({ engine, clock });
    limiter.restore((engine === 'native' ? js : native).snapshot());
    return withoutSecrets(limiter.snapshot());
  }) as [string, string];
  if (nativeText === jsText) return {};
  return {
    difference: { operation: `${native.constructor.name}.restore`, native: nativeText, js: jsText },
  };
}

/** Returns a snapshot as text, without its secrets and digests, which differ between any two limiters. */
function withoutSecrets(snapshot: LimiterSnapshot | RuleSnapshot): string {
  const parts = 'scopes' in snapshot ? snapshot.scopes : [snapshot];
  const texts = parts.map(({ digests, ...rest }) => {
    const numbers = digests.flatMap(({ peers }) => peers.map(([, ...row]) => show(row)));
    return JSON.stringify({ ...rest, digests: numbers.sort() });
  });
  return texts.join();
}

/** Calls a method and returns its result as text: different numbers, also 0 and -0, have different texts. */
function resultText(limiter: Limiter, method: string, given: unknown[]): string {
  const call = (limiter as unknown as Record<string, (...given: unknown[]) => unknown>)[method];
  return show(call?.apply(limiter, given));
}

function show(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(show).join(', ')}]`;
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value !== 'object' || value === null) return Object.is(value, -0) ? '-0' : `${value}`;
  const fields = Object.entries(value).map(([name, field]) => `${name}: ${show(field)}`);
  return `{ ${fields.join(', ')} }`;
}

/** Chooses a call. The first call has a probability of one half, as an attack consists mostly of checks. */
function oneOf(random: Random, calls: readonly Call[]): Call {
  const others = calls.length - 1;
  return calls[random() < 0.5 ? 0 : 1 + Math.floor(random() ** 3 * others)] as Call;
}

/** Returns a generator of numbers from 0 to below 1, the same for the same seed (xorshift32). */
function randomOf(seed: number): Random {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
