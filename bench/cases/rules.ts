// RuleLimiter against RateLimiter, and against three limiters of rate-limiter-flexible in a RateLimiterUnion: one scope by
// key, three scopes by keys, opened peers, memory. The same with a shared table, against a private one.

import { setTimeout } from 'node:timers/promises';
import { RateLimiterMemory, RateLimiterUnion } from 'rate-limiter-flexible';
import {
  type EngineName,
  RateLimiter,
  RuleLimiter,
  type RuleLimiterOptions,
  removeShared,
} from 'relay-limiter';
import { RATE } from '../contestants.js';
import { Peers, peerKey, shuffled } from '../keys.js';
import { newTable } from '../tables.js';
import { time, timeLater } from '../timing.js';
import type { Case, Metric, Round } from './case.js';

// A burst that no measurement uses up.
const BURST = 1e9;
const BATCH = 1_000;
const DAY_SECONDS = 86_400;
const SIZES = [1_000, 100_000, 1_000_000] as const;
const METRICS: readonly Metric[] = [{ name: 'ns', unit: 'ns', label: 'per check' }];

const BASELINE = 'RateLimiter, native';
const RULES_NATIVE = 'RuleLimiter, native';
const RULES_TYPESCRIPT = 'RuleLimiter, TypeScript';
const UNION = 'rate-limiter-flexible';
const RULES_SHARED = 'RuleLimiter, shared';
const SHARED_SIZES = [1_000, 100_000] as const;
const ENGINES: Record<string, EngineName> = { [RULES_NATIVE]: 'native', [RULES_TYPESCRIPT]: 'js' };

type Shape = Pick<RuleLimiterOptions, 'scopes' | 'rules'>;

/** Rules of one scope, or one rule in each of several scopes. */
function shapeOf(scopes: number, rules: number): Shape {
  const names = ['connection', 'address', 'account'].slice(0, scopes);
  const rule = (scope: string, i: number) => ({ scope, rateLimit: RATE, burstLimit: BURST + i });
  return {
    scopes: Object.fromEntries(names.map((name) => [name, {}])),
    rules: Object.fromEntries(
      Array.from({ length: rules }, (_, i) => [`rule ${i}`, rule(names[i % scopes] as string, i)]),
    ),
  };
}

function limiterOf(contestant: string, shape: Shape, peers: number, burst = BURST): RuleLimiter {
  const rules = Object.entries(shape.rules).map(([name, rule], i) => [
    name,
    { ...rule, burstLimit: burst + i },
  ]);
  const isShared = contestant === RULES_SHARED;
  return new RuleLimiter({
    ...shape,
    rules: Object.fromEntries(rules),
    engine: isShared ? 'native' : ENGINES[contestant],
    maxPeers: isShared ? Math.max(peers, 1000) : Infinity,
    shared: isShared ? newTable() : undefined,
  });
}

/** @throws unless a burst of two allows exactly two checks. */
function prove(contestant: string, shape: Shape): void {
  const limiter = limiterOf(contestant, shape, 1, 2);
  const keys = keysOf(shape, 'a');
  const opened = limiter.open(keys);
  const outcomes = [limiter.check(keys), opened.check(), opened.check(), limiter.check(keys)];
  const refused = outcomes.map(({ outcome }) => outcome !== 'allow');
  if (refused.join() !== 'false,false,true,true') throw new Error('it does not limit');
  if (limiter.shared === undefined) return;
  // The measured limiter has other numbers.
  removeShared(limiter.shared.name);
  limiter.close();
  limiter.close();
}

function keysOf({ scopes }: Shape, key: string): Record<string, string> {
  return Object.fromEntries(Object.keys(scopes).map((name) => [name, key]));
}

function timed<T>(items: readonly T[], check: (item: T) => boolean) {
  let next = 0;
  let refused = 0;
  const work = () => {
    for (let i = 0; i < BATCH; i += 1) {
      if (!check(items[next] as T)) refused += 1;
      next = next + 1 === items.length ? 0 : next + 1;
    }
  };
  return (): Round => {
    const ns = time(work, BATCH);
    if (refused > 0) throw new Error(`${refused} checks were refused`);
    return { figures: { ns } };
  };
}

/** Three limiters that are asked together. A refused check takes from those that allow it: that is how it works. */
async function union(peers: Peers) {
  const limiters = [1, 60, 3600].map(
    (_, i) => new RateLimiterMemory({ points: BURST, duration: DAY_SECONDS, keyPrefix: `r${i}` }),
  );
  const limiter = new RateLimiterUnion(...limiters);
  for (const key of peers.sample) await limiter.consume(key);
  let next = 0;
  const work = async () => {
    for (let i = 0; i < BATCH; i += 1) {
      await limiter.consume(peers.sample[next] as string);
      next = next + 1 === peers.sample.length ? 0 : next + 1;
    }
  };
  return async (): Promise<Round> => ({ figures: { ns: await timeLater(work, BATCH) } });
}

interface Checks {
  name: string;
  title: string;
  shape: Shape;
  isOpened?: boolean;
}

const CHECKS: readonly Checks[] = [
  { name: 'key', title: 'one scope, three rules, check by key', shape: shapeOf(1, 3) },
  { name: 'keys', title: 'three scopes, one rule each, check by keys', shape: shapeOf(3, 3) },
  {
    name: 'opened',
    title: 'three scopes, three rules, check of an opened peer',
    shape: shapeOf(3, 3),
    isOpened: true,
  },
];

function privateCase(checks: Checks): Case {
  return {
    ...caseOf(checks),
    name: `rules-${checks.name}`,
    title: checks.title,
    sizes: SIZES,
    baseline: BASELINE,
    contestants: (size) => {
      const own = [BASELINE, RULES_NATIVE, RULES_TYPESCRIPT];
      return checks.isOpened === true || size > 100_000 ? own : [...own, UNION];
    },
  };
}

function sharedCase(checks: Checks): Case {
  return {
    ...caseOf(checks),
    name: `shared-rules-${checks.name}`,
    title: `rules in a shared table, ${checks.title}`,
    sizes: SHARED_SIZES,
    baseline: RULES_NATIVE,
    contestants: () => [RULES_NATIVE, RULES_SHARED],
  };
}

function caseOf({
  shape,
  isOpened = false,
}: Checks): Pick<Case, 'rounds' | 'fresh' | 'metrics' | 'prepare'> {
  return {
    rounds: 7,
    fresh: false,
    metrics: METRICS,
    prepare: async (contestant, size) => {
      const peers = new Peers(size);
      if (contestant === UNION) return union(peers);
      if (contestant === BASELINE) {
        const limiter = new RateLimiter({
          engine: 'native',
          rateLimit: RATE,
          burstLimit: BURST,
          maxPeers: Infinity,
        });
        const allows = (result: readonly [string, number]) => result[0] === 'allow';
        for (const key of peers.sample) limiter.check(key);
        if (!isOpened) return timed(peers.sample, (key) => allows(limiter.check(key)));
        const opened = shuffled(peers.sample.map((key) => limiter.open(key)));
        for (const peer of opened) peer.check();
        return timed(opened, (peer) => allows(peer.check()));
      }
      prove(contestant, shape);
      const limiter = limiterOf(contestant, shape, size);
      const isSingle = Object.keys(shape.scopes).length === 1;
      if (isSingle && !isOpened) {
        for (const key of peers.sample) limiter.check(key);
        return timed(peers.sample, (key) => limiter.check(key).outcome === 'allow');
      }
      const all = peers.sample.map((key) => keysOf(shape, key));
      for (const keys of all) limiter.check(keys);
      if (!isOpened) return timed(all, (keys) => limiter.check(keys).outcome === 'allow');
      const opened = shuffled(all.map((keys) => limiter.open(keys)));
      for (const peer of opened) peer.check();
      return timed(opened, (peer) => peer.check().outcome === 'allow');
    },
  };
}

const SMALLEST = 1_000_000;
const LARGEST = 10_000_000;
const STEP = 1.1;

function memory(rules: number): Case {
  const shape = shapeOf(1, rules);
  return {
    name: `rules-memory-${rules}`,
    title: `resident bytes per peer with ${rules} rules, worst size from 1 to 10 million`,
    sizes: [LARGEST],
    rounds: 1,
    fresh: true,
    flags: ['--min-semi-space-size=1', '--max-semi-space-size=1'],
    metrics: [{ name: 'worst', unit: 'B', label: 'per peer' }],
    baseline: BASELINE,
    contestants: () => [BASELINE, RULES_NATIVE],
    prepare: async (contestant) => {
      const create = () =>
        contestant === BASELINE
          ? new RateLimiter({
              engine: 'native',
              rateLimit: RATE,
              burstLimit: BURST,
              maxPeers: Infinity,
            })
          : limiterOf(contestant, shape, LARGEST);
      const warm = create();
      for (let n = 0; n < SMALLEST; n += 1) warm.check(peerKey(n).slice(0, 1));
      return async (): Promise<Round> => {
        const limiter = create();
        const before = await resident();
        const curve: [number, number][] = [];
        let due = SMALLEST;
        for (let n = 1; n <= LARGEST; n += 1) {
          limiter.check(peerKey(n));
          if (n !== due && n !== LARGEST) continue;
          curve.push([n, ((await resident()) - before) / n]);
          due = Math.round(due * STEP);
        }
        return { figures: { worst: Math.max(...curve.map(([, bytes]) => bytes)) }, curve };
      };
    },
  };
}

async function resident(): Promise<number> {
  globalThis.gc?.();
  await setTimeout(50);
  globalThis.gc?.();
  await setTimeout(50);
  return process.memoryUsage.rss();
}

export const rules: Case[] = [
  ...CHECKS.map(privateCase),
  memory(1),
  memory(5),
  ...CHECKS.map(sharedCase),
];
