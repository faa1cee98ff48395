// One table for all processes of a machine: what it costs compared with a private one, how it scales with processes, and
// what other packages offer for that.

import { type ChildProcess, fork } from 'node:child_process';
import cluster from 'node:cluster';
import { fileURLToPath } from 'node:url';
import { RateLimiterClusterMaster } from 'rate-limiter-flexible';
import { RateLimiter } from 'relay-limiter';
import { Peers } from '../keys.js';
import { newTable } from '../tables.js';
import { time, timeOf } from '../timing.js';
import type { Case, Round } from './case.js';
import {
  BURST,
  CLUSTER,
  KEEPS_BUSY,
  type Order,
  RATE,
  REDIS,
  VISITS,
  type Work,
  type WorkerOptions,
} from './machine-orders.js';
import { redisServer } from './shared.js';
import { timedChecks } from './timed-checks.js';

const WORKER = fileURLToPath(new URL('./machine-worker.js', import.meta.url));
/** Workers would warn that their table is removed in the end. */
const QUIETLY = ['--no-warnings'];
const PRIVATE = 'private';
const SHARED = 'shared';
/** Checks of one round of all workers together. */
const CHECKS = 2_000_000;
/** The same of limiters that answer later, which are slower. */
const LATER_CHECKS = 20_000;
const WORKERS = 4;
/** Checks of one round that wait for another process. */
const WAITING_CHECKS = 200_000;

function limiterOf(
  peers: Peers,
  shared: string | undefined,
  maxPeers = Math.max(peers.size, 1000),
): RateLimiter {
  const limiter = new RateLimiter({
    ...{ engine: 'native', rateLimit: RATE, burstLimit: BURST, shared, maxPeers },
  });
  for (let n = 0; n < peers.size; n += 1) limiter.check(peers.key(n));
  return limiter;
}

const check: Case = {
  name: 'shared-check',
  title: 'a check by key of a shared table, in one process',
  sizes: [1_000, 1_000_000],
  contestants: () => [PRIVATE, SHARED],
  rounds: 15,
  fresh: false,
  metrics: [{ name: 'ns', unit: 'ns', label: 'per check' }],
  baseline: PRIVATE,
  async prepare(contestant, size) {
    const peers = new Peers(size);
    const limiter = limiterOf(peers, contestant === SHARED ? newTable() : undefined);
    return timedChecks(limiter, peers);
  },
};

/** The workers of a contestant, which all do a round at the same time. */
class Workers {
  readonly #children: ChildProcess[] = [];

  static async start(count: number, options: WorkerOptions): Promise<Workers> {
    const workers = new Workers();
    const isCluster = options.limiter === CLUSTER;
    if (isCluster)
      cluster.setupPrimary({ exec: WORKER, args: [JSON.stringify(options)], execArgv: QUIETLY });
    for (let n = 0; n < count; n += 1) {
      workers.#children.push(
        isCluster
          ? cluster.fork().process
          : fork(WORKER, [JSON.stringify(options)], { execArgv: QUIETLY }),
      );
    }
    await workers.#answers('ready');
    return workers;
  }

  #send(order: Order): void {
    for (const child of this.#children) child.send(order);
  }

  #answers(name: Answer): Promise<number[]> {
    return Promise.all(this.#children.map((child) => answerOf(child, name)));
  }

  /** Makes them visit the table without pause, until they rest. */
  async keepBusy(work: Work): Promise<void> {
    this.#send({ keepBusy: work });
    await this.#answers('busy');
  }

  async rest(): Promise<void> {
    this.#send({ rest: true });
    await this.#answers('done');
  }

  /** The nanoseconds per check of all workers together: they work for so long, divided by all their checks. */
  async check(checks: number): Promise<number> {
    const each = Math.ceil(checks / this.#children.length);
    this.#send({ checks: each });
    const times = await this.#answers('done');
    return (Math.max(...times) / (each * this.#children.length)) * 1e6;
  }
}

type Answer = 'ready' | 'busy' | 'done';

/** Other messages, such as those of another package, may come first. */
function answerOf(child: ChildProcess, name: Answer): Promise<number> {
  return new Promise((resolve, reject) => {
    const listener = (message: Record<string, unknown>) => {
      if (!(name in message || 'failed' in message)) return;
      child.off('message', listener);
      if ('failed' in message) reject(new Error(String(message['failed'])));
      else resolve(Number(message[name]));
    };
    child.on('message', listener);
  });
}

const processes: Case = {
  name: 'shared-processes',
  title: 'checks of several processes at full speed on one table',
  sizes: [1, 100, 1_000_000],
  contestants: () => ['1 process', '2 processes', '4 processes'],
  rounds: 9,
  fresh: false,
  metrics: [{ name: 'ns', unit: 'ns', label: 'time divided by all checks' }],
  baseline: '1 process',
  async prepare(contestant, size) {
    const shared = newTable();
    limiterOf(new Peers(size), shared);
    const workers = await Workers.start(Number.parseInt(contestant, 10), { peers: size, shared });
    return async (): Promise<Round> => ({ figures: { ns: await workers.check(CHECKS) } });
  },
};

const wait: Case = {
  name: 'shared-wait',
  title: 'checks while another process visits the part of the table that has all peers',
  // One part of a table: it has at most 476 peers, and each visit of it keeps all of them waiting.
  sizes: [400],
  contestants: () => ['alone', ...KEEPS_BUSY],
  rounds: 15,
  fresh: false,
  metrics: [
    { name: 'most', unit: 'ms', label: '99.9% of checks take at most' },
    { name: 'visit', unit: 'ms', label: 'one visit', aside: true },
    { name: 'ns', unit: 'ns', label: 'per check', aside: true },
    { name: 'longest', unit: 'ms', label: 'longest check', aside: true },
  ],
  baseline: 'alone',
  flags: QUIETLY,
  async prepare(contestant, size) {
    const peers = new Peers(size);
    const shared = newTable();
    const limiter = limiterOf(peers, shared, size);
    // Violators, because statistics list them.
    for (const key of peers.sample) limiter.check(key, 2 * BURST);
    const busy = KEEPS_BUSY.find((work) => work === contestant);
    const workers =
      busy === undefined
        ? undefined
        : await Workers.start(1, { peers: size, shared, maxPeers: size });
    const durations = new Float64Array(WAITING_CHECKS);
    return async () => {
      const visit = busy === undefined ? 0 : time(() => VISITS[busy](limiter), 1) / 1e6;
      if (busy !== undefined) await workers?.keepBusy(busy);
      const begin = performance.now();
      for (let n = 0; n < durations.length; n += 1) {
        const key = peers.sample[n % peers.sample.length] as string;
        durations[n] = timeOf(() => limiter.check(key));
      }
      const ns = ((performance.now() - begin) / durations.length) * 1e6;
      await workers?.rest();
      durations.sort();
      const at = (part: number) => durations[Math.floor(part * (durations.length - 1))] as number;
      return { figures: { most: at(0.999), visit, ns, longest: at(1) } };
    };
  },
};

const attach: Case = {
  name: 'shared-attach',
  title: 'creation of a limiter that joins a table',
  sizes: [1_000, 1_000_000],
  contestants: () => [PRIVATE, SHARED],
  rounds: 15,
  fresh: false,
  metrics: [{ name: 'ms', unit: 'ms', label: 'creation' }],
  baseline: PRIVATE,
  async prepare(contestant, size) {
    const peers = new Peers(size);
    const shared = contestant === SHARED ? newTable() : undefined;
    const first = limiterOf(peers, shared);
    const { rateLimit, burstLimit, maxPeers } = first;
    return () => {
      let limiter = first;
      const ms = timeOf(() => {
        limiter = new RateLimiter({ engine: 'native', rateLimit, burstLimit, maxPeers, shared });
      });
      limiter.close();
      limiter.close();
      return { figures: { ms } };
    };
  },
};

const others: Case = {
  name: 'shared-others',
  title: `checks of ${WORKERS} processes with one limit, at full speed`,
  sizes: [1_000],
  contestants: () => [SHARED, CLUSTER, REDIS],
  rounds: 9,
  fresh: false,
  metrics: [{ name: 'ns', unit: 'ns', label: 'time divided by all checks' }],
  baseline: SHARED,
  surroundings: redisServer,
  async prepare(contestant, size) {
    if (contestant === SHARED) {
      const shared = newTable();
      limiterOf(new Peers(size), shared);
      const workers = await Workers.start(WORKERS, { peers: size, shared });
      return async (): Promise<Round> => ({ figures: { ns: await workers.check(CHECKS) } });
    }
    if (contestant === CLUSTER) new RateLimiterClusterMaster();
    const workers = await Workers.start(WORKERS, { limiter: contestant, peers: size });
    // The first checks wait until the primary knows the limiter.
    await workers.check(LATER_CHECKS);
    return async (): Promise<Round> => ({ figures: { ns: await workers.check(LATER_CHECKS) } });
  },
};

export const machine: readonly Case[] = [check, processes, wait, attach, others];
