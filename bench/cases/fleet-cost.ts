// What one limit for many processes costs where peers come once, and what it costs the server.

import { Redis } from 'ioredis';
import { RateLimiterRedis } from 'rate-limiter-flexible';
import { SharedRateLimiter } from 'relay-limiter/redis';
import type { Case, Round } from './case.js';
import { redisServer } from './shared.js';

const FLEXIBLE = 'rate-limiter-flexible';
const CONTESTANTS = ['leased', 'strict', FLEXIBLE] as const;
const AT_ONCE = 100;
/** No key expires during the rounds, so the server's memory only grows. */
const KEPT_SECONDS = 1000;
const LIMIT = { rateLimit: 1, burstLimit: KEPT_SECONDS };

/** Checks a peer; resolves with true if it is allowed. */
type Check = (key: string) => Promise<boolean>;

function checkOf(contestant: string, client: Redis, prefix: string): Check {
  if (contestant === FLEXIBLE) {
    const limit = { points: LIMIT.burstLimit, duration: KEPT_SECONDS, keyPrefix: prefix };
    const flexible = new RateLimiterRedis({ storeClient: client, ...limit });
    return async (key) => (await flexible.consume(key)).remainingPoints > 0;
  }
  const mode = contestant as 'leased' | 'strict';
  const shared = new SharedRateLimiter({ client, mode, prefix, deadlineSeconds: 10, ...LIMIT });
  return async (key) => (await shared.checkAsync(key))[0] === 'allow';
}

/** Checks `count` keys, `AT_ONCE` at a time. */
async function checkAll(check: Check, keyOf: (n: number) => string, count: number): Promise<void> {
  let next = 0;
  let refused = 0;
  const one = async () => {
    while (next < count) {
      const key = keyOf(next);
      next += 1;
      if (!(await check(key))) refused += 1;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  if (refused > 0) throw new Error(`${refused} checks were refused`);
}

async function usedBytes(client: Redis): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await client.info('memory'))?.[1]);
}

/** Microseconds that the server has spent in EVALSHA, and the number of these calls. */
async function evalCost(client: Redis): Promise<readonly [micros: number, calls: number]> {
  const line = /cmdstat_evalsha:calls=(\d+),usec=(\d+)/.exec(await client.info('commandstats'));
  return [Number(line?.[2] ?? 0), Number(line?.[1] ?? 0)];
}

const newcomers: Case = {
  name: 'fleet-newcomers',
  title: 'first check of a peer, by a call of the store',
  sizes: [20_000],
  contestants: () => [...CONTESTANTS],
  rounds: 9,
  fresh: false,
  baseline: FLEXIBLE,
  metrics: [
    { name: 'ns', unit: 'ns', label: 'per check' },
    { name: 'server', unit: 'ns', label: "server's time per check" },
    { name: 'bytes', unit: 'B', label: 'memory of the store per key' },
  ],
  surroundings: redisServer,
  async prepare(contestant, size) {
    const client = new Redis(process.env['BENCH_REDIS_URL'] ?? '');
    // Keys of their own, of the same length.
    const check = checkOf(contestant, client, `once${CONTESTANTS.indexOf(contestant as 'leased')}`);
    // Loads the script.
    await check('warm');
    let round = 0;
    return async (): Promise<Round> => {
      round += 1;
      const [micros, calls] = await evalCost(client);
      const bytes = await usedBytes(client);
      const before = performance.now();
      await checkAll(check, (n) => `10.${round}.${n >> 8}.${n & 255}`, size);
      const ns = ((performance.now() - before) / size) * 1e6;
      const [microsNow, callsNow] = await evalCost(client);
      const grown = (await usedBytes(client)) - bytes;
      const server = ((microsNow - micros) / (callsNow - calls)) * 1e3;
      return { figures: { ns, server, bytes: grown / size } };
    };
  },
};

const server: Case = {
  name: 'fleet-server',
  title: "server's time for a check of a known peer",
  sizes: [1_000],
  contestants: () => ['strict', FLEXIBLE],
  rounds: 15,
  fresh: false,
  baseline: FLEXIBLE,
  metrics: [{ name: 'server', unit: 'ns', label: "server's time per check" }],
  surroundings: redisServer,
  async prepare(contestant, size) {
    const client = new Redis(process.env['BENCH_REDIS_URL'] ?? '');
    let round = 0;
    return async (): Promise<Round> => {
      round += 1;
      const check = checkOf(contestant, client, `known-${round}`);
      const keyOf = (n: number) => `peer-${n % size}`;
      await checkAll(check, keyOf, size);
      const [micros, calls] = await evalCost(client);
      await checkAll(check, keyOf, 20 * size);
      const [microsNow, callsNow] = await evalCost(client);
      return { figures: { server: ((microsNow - micros) / (callsNow - calls)) * 1e3 } };
    };
  },
};

export const fleetCost: readonly Case[] = [newcomers, server];
