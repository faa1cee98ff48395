// The cost of one limit for many processes. A check that calls the store is compared with only the script and with
// another package, on one server; a check covered by a lease is compared with a local check.

import { Redis } from 'ioredis';
import { RateLimiterRedis } from 'rate-limiter-flexible';
import { createClient } from 'redis';
import { type EngineName, RateLimiter } from 'relay-limiter';
import { SharedRateLimiter } from 'relay-limiter/redis';
import { Peers } from '../keys.js';
import type { Case, Figures, Round, Surroundings } from './case.js';
import { type LaterCheck, laterChecks, timedChecks } from './timed-checks.js';

const ALONE = 'EVALSHA alone';
const STRICT = 'strict';
const FLEXIBLE = 'rate-limiter-flexible';
const LEASED = 'leased';

const PEERS = 1_000;
const CHECKS = 6_000;
const DEADLINE_SECONDS = 10;
/**
 * Numbers of concurrent checks. There are several, because a client writes all requests of one turn to the socket
 * together, and their number decides whether client and server work at the same time or one after the other.
 */
const AT_ONCE = [30, 100, 300];
const LIMIT = { rateLimit: 1e6, burstLimit: 1e9 };

/** The used parts of the demonstration's module, which is compiled separately from the benchmark. */
interface ServerModule {
  readonly INSTALL_ADVICE: string;
  findServer(): string | undefined;
  StoreServer: { start(program: string): Promise<{ url: string; close(): Promise<void> }> };
}

/** Starts the benchmark's own server, for all contestants. */
export async function redisServer(): Promise<Surroundings> {
  const { href } = new URL('../../examples/fleet/server.js', import.meta.url);
  const { INSTALL_ADVICE, findServer, StoreServer }: ServerModule = await import(href);
  const program = findServer();
  if (program === undefined) throw new Error(`there is no redis-server: ${INSTALL_ADVICE}`);
  const store = await StoreServer.start(program);
  return { env: { BENCH_REDIS_URL: store.url }, close: () => store.close() };
}

type Clients = { 'node-redis': ReturnType<typeof createClient>; ioredis: Redis };

const CONNECT: { [Name in keyof Clients]: (url: string) => Promise<Clients[Name]> } = {
  async 'node-redis'(url) {
    const client = createClient({ url });
    await client.connect();
    return client as Clients['node-redis'];
  },
  ioredis: async (url) => new Redis(url),
};

function strictCase(name: keyof Clients): Case {
  return {
    name: `strict-${name}`,
    title: `a check that calls the store, through ${name}`,
    sizes: [PEERS],
    contestants: () => [ALONE, STRICT, FLEXIBLE],
    rounds: 15,
    fresh: false,
    metrics: [
      ...AT_ONCE.map((n) => ({ name: `of-${n}`, unit: 'ns', label: `${n} concurrent` }) as const),
      { name: 'cpu', unit: 'ns', label: "client's processor time" },
    ],
    surroundings: redisServer,
    async prepare(contestant, size) {
      const client = await CONNECT[name](process.env['BENCH_REDIS_URL'] ?? '');
      const check = await checkOf(contestant, name, client);
      const { sample } = new Peers(size);
      return async (): Promise<Round> => {
        const figures: Figures = {};
        const used = process.cpuUsage();
        for (const atOnce of AT_ONCE) figures[`of-${atOnce}`] = await run(check, sample, atOnce);
        const { user, system } = process.cpuUsage(used);
        figures['cpu'] = ((user + system) / (CHECKS * AT_ONCE.length)) * 1e3;
        return { figures };
      };
    },
  };
}

/** Returns the nanoseconds per check, with `atOnce` checks under way. */
async function run(check: LaterCheck, keys: readonly string[], atOnce: number): Promise<number> {
  const before = performance.now();
  await laterChecks(check, keys, CHECKS, atOnce);
  return ((performance.now() - before) / CHECKS) * 1e6;
}

async function checkOf<Name extends keyof Clients>(
  contestant: string,
  name: Name,
  client: Clients[Name],
): Promise<LaterCheck> {
  if (contestant === ALONE) return alone(name, client);
  if (contestant === STRICT) {
    const shared = new SharedRateLimiter({
      client,
      mode: 'strict',
      deadlineSeconds: DEADLINE_SECONDS,
      ...LIMIT,
    });
    return async (key) => (await shared.checkAsync(key))[0] === 'allow';
  }
  const useRedisPackage = name === 'node-redis';
  const limit = { points: LIMIT.burstLimit, duration: 86_400 };
  const flexible = new RateLimiterRedis({ storeClient: client, useRedisPackage, ...limit });
  return async (key) => (await flexible.consume(key)).remainingPoints > 0;
}

/** Makes only the store call of a check in mode `strict`. */
async function alone(name: keyof Clients, client: Clients[keyof Clients]): Promise<LaterCheck> {
  const sha = await shaOfStrict(name, client);
  // As a check's argument: until when it may be executed.
  let args: string[] = [];
  let calls = 0;
  const argsNow = () => {
    if (calls % 1000 === 0) args = [String(Math.floor(Date.now() / 1000 + DEADLINE_SECONDS + 1.5))];
    calls += 1;
    return args;
  };
  if (name === 'ioredis') {
    const redis = client as Redis;
    return async (key) => Number(await redis.evalsha(sha, 1, `al{10}${key}`, ...argsNow())) > 0;
  }
  const redis = client as Clients['node-redis'];
  return async (key) => {
    const reply = await redis.evalSha(sha, {
      keys: [`al{10}${key}`],
      arguments: argsNow(),
    });
    return Number(reply) > 0;
  };
}

async function shaOfStrict(name: keyof Clients, client: Clients[keyof Clients]): Promise<string> {
  const method = name === 'ioredis' ? 'evalsha' : 'evalSha';
  const shas: string[] = [];
  const watched = new Proxy(client, {
    get(target, property) {
      const value = Reflect.get(target, property);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        if (property === method) shas.push(args[0] as string);
        return value.apply(target, args);
      };
    },
  });
  const shared = new SharedRateLimiter({
    client: watched,
    mode: 'strict',
    deadlineSeconds: DEADLINE_SECONDS,
    ...LIMIT,
  });
  // The first check also loads the script.
  for (let i = 0; i < 2; i += 1) await shared.checkAsync('alone');
  await shared.close();
  return shas[0] as string;
}

const leased: Case = {
  name: 'leased',
  title: 'a check that a lease covers, and a check of a local limiter',
  sizes: [1_000, 100_000],
  contestants: () => ['local, native', 'local, TypeScript', LEASED],
  rounds: 9,
  fresh: false,
  metrics: [{ name: 'ns', unit: 'ns', label: 'per check' }],
  surroundings: redisServer,
  async prepare(contestant, size) {
    const peers = new Peers(size);
    const limiter =
      contestant === LEASED
        ? await leasing(peers)
        : filled(peers, contestant === 'local, native' ? 'native' : 'js');
    return timedChecks(limiter, peers);
  },
};

function filled(peers: Peers, engine: EngineName): RateLimiter {
  const limiter = new RateLimiter({ engine, ...LIMIT });
  for (let n = 0; n < peers.size; n += 1) limiter.check(peers.key(n));
  return limiter;
}

/** Creates a limiter with a lease for each peer that lasts for all rounds. */
async function leasing(peers: Peers): Promise<SharedRateLimiter> {
  const client = createClient({ url: process.env['BENCH_REDIS_URL'] ?? '' });
  await client.connect();
  const options = { client, leaseSeconds: 3600, deadlineSeconds: 60, prefix: 'leasing' };
  const limiter = new SharedRateLimiter({ ...options, ...LIMIT });
  await limiter.ready();
  const most = LIMIT.burstLimit / 4;
  for (let n = 0; n < peers.size; n += 1) {
    limiter.check(peers.key(n), most);
    if (n % 1000 === 999) await settled(limiter);
  }
  await settled(limiter);
  return limiter;
}

/** Waits until the limiter's calls have finished; they start in the next turn of the event loop. */
async function settled(limiter: SharedRateLimiter): Promise<void> {
  do await new Promise((resolve) => setTimeout(resolve, 1));
  while (limiter.getStats().store.inFlight > 0);
}

export const shared: readonly Case[] = [strictCase('node-redis'), strictCase('ioredis'), leased];
