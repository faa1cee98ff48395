// The programs: what a crawler of well known APIs has to do, and the servers that it does it with.

import {
  type Arrival,
  binance,
  discord,
  gitHub,
  hiveNode,
  openAI,
  type Server,
  shopify,
  type Window,
} from './servers.js';

export interface Job extends Arrival {
  /** What the server's limits per minute count. */
  readonly cost: number;
}

export interface Program {
  readonly name: string;
  /** The shortest time in which the servers would serve everything, in seconds. */
  readonly optimumSeconds: number;
  /** The limits as the API's documentation states them, of one host. */
  readonly windows: readonly Window[];
  /** What `windows` count: requests, or the `cost` of a job. */
  readonly unit: 'requests' | 'cost';
  /** The options of relay-limiter for the program; see contenders.ts. */
  readonly kind: 'pool' | 'points' | 'routes' | 'tokens' | 'one';
  /** Fresh servers by host. */
  servers(): Record<string, Server>;
  jobs(): Job[];
}

const HIVE: readonly Window[] = [
  { quota: 240, windowSeconds: 60 },
  { quota: 1_800, windowSeconds: 600 },
  { quota: 9_000, windowSeconds: 3_600 },
  { quota: 21_600, windowSeconds: 10_800 },
];
/** The epoch seconds at which virtual time begins. */
const EPOCH = 1_800_000_000;

const job = (more: Partial<Job> = {}): Job => {
  return { method: 'GET', path: '/', tokens: 0, cost: 1, ...more };
};
const jobs = (count: number, of: (n: number) => Partial<Job> = () => ({})) =>
  Array.from({ length: count }, (_, n) => job(of(n)));

function hive(name: string, count: number, optimumSeconds: number, broken?: Server): Program {
  return {
    name,
    optimumSeconds,
    windows: HIVE,
    unit: 'requests',
    kind: 'pool',
    servers: () => {
      const hosts = ['one', 'two', 'three', 'four'].map((host, n) => [
        `${host}.example`,
        n === 1 && broken !== undefined ? broken : hiveNode(HIVE),
      ]);
      return Object.fromEntries(hosts);
    },
    jobs: () => jobs(count),
  };
}

const only = (server: Server) => ({ 'api.example': server });

export const PROGRAMS: readonly Program[] = [
  // 7,500 requests for each node: 1,800 in each ten minutes, then 240, then 60.
  hive('Hive, 4 nodes, 30,000 calls', 30_000, 2460),
  // 1,000 requests for each of three nodes: 240 in each minute.
  hive('the same, one refuses, 3,000 calls', 3_000, 240, () => {
    throw new TypeError('fetch failed');
  }),
  hive('the same, one answers 502', 3_000, 240, () => ({ status: 502 })),
  hive('the same, one never answers', 3_000, 240, () => undefined),
  {
    name: 'GitHub, 7,000 GET and 300 POST',
    // 5,000 requests until the hour ends after 29 minutes, then 2,300 points at 900 per minute.
    optimumSeconds: 1860,
    windows: [{ quota: 900, windowSeconds: 60 }],
    unit: 'cost',
    kind: 'points',
    servers: () => only(gitHub(1740, EPOCH)),
    jobs: () => {
      const isPost = (n: number) => n < 3000 && n % 10 === 9;
      return jobs(7300, (n) => (isPost(n) ? { method: 'POST', cost: 5 } : {}));
    },
  },
  {
    name: 'Discord, 40 routes, 2,000 calls',
    // 50 requests for each route, 4 in each 5 seconds.
    optimumSeconds: 60,
    windows: [{ quota: 50, windowSeconds: 1 }],
    unit: 'requests',
    kind: 'routes',
    servers: () => only(discord({ quota: 4, windowSeconds: 5 })),
    jobs: () => jobs(2000, (n) => ({ path: `/route-${n % 40}` })),
  },
  {
    name: 'OpenAI, 400 calls, 588,000 tokens',
    // 30,000 tokens per minute, the first of them at once.
    optimumSeconds: 1140,
    windows: [{ quota: 30_000, windowSeconds: 60 }],
    unit: 'cost',
    kind: 'tokens',
    servers: () =>
      only(openAI({ quota: 500, windowSeconds: 60 }, { quota: 30_000, windowSeconds: 60 })),
    jobs: () =>
      jobs(400, (n) => {
        const tokens = 470 + 20 * ((n * 37) % 101);
        return { method: 'POST', tokens, cost: tokens };
      }),
  },
  {
    name: 'Shopify, 600 calls',
    // A bucket of 40, refilled with 2 per second.
    optimumSeconds: 280,
    windows: [{ quota: 40, windowSeconds: 20 }],
    unit: 'requests',
    kind: 'one',
    servers: () => only(shopify(40, 2)),
    jobs: () => jobs(600),
  },
  {
    name: 'Binance, 3,000 calls of weight 20',
    // 6,000 in each minute; the first minute ends after 30 seconds.
    optimumSeconds: 510,
    windows: [{ quota: 6000, windowSeconds: 60 }],
    unit: 'cost',
    kind: 'one',
    servers: () => only(binance({ quota: 6000, windowSeconds: 60 }, 30, 20)),
    jobs: () => jobs(3000, () => ({ cost: 20 })),
  },
];
