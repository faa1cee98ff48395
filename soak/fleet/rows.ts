// The faults. Each happens to a fleet in a calm, with full buckets and tokens on lease, and again in a storm, which has
// emptied the buckets.

import type { FailurePolicy } from 'relay-limiter/redis';
import type { StoreServer } from '../../examples/fleet/server.js';
import type { Fleet } from './fleet.js';
import { type Needs, onServer, type Scene, sleep } from './scene.js';

/** Mode `strict` with the policy `closed`, or mode `leased` with another policy. */
export type Variant = 'strict' | Exclude<FailurePolicy, 'closed'>;

export interface Row extends Needs {
  readonly name: string;
  /** What is run beside mode `leased` with the policy `closed`. */
  readonly others?: readonly Variant[];
  /** Whether the fault happens once, in a storm. */
  readonly isOnce?: boolean;
  /** Bursts by which the fault may exceed the bound, as docs/fleet.md says. Default 0. */
  readonly bursts?: number;
  readonly fault: (scene: Scene) => Promise<void>;
}

/** Longer than a lease, and than buckets take to fill up. */
const LONG_SECONDS = 2.5;
/** Longer than a lease. */
const OUTAGE_SECONDS = 1.5;
const STEP_SECONDS = 60;
/** The nodes whose clocks a row may set, and one of the others. */
const SHIFTED = [0, 1];
const OTHER = [2];

/** Lets a fault happen to a scene. Resolves when all nodes admit messages again. */
export async function run(scene: Scene, { fault, isOnce = false }: Row): Promise<void> {
  if (!isOnce) {
    await scene.calm(1.2);
    await fault(scene);
  }
  await scene.storm(1.2);
  await fault(scene);
  await scene.fleet.untilAdmitted();
  await scene.storm(1.2);
}

const NODES: readonly Row[] = [
  { name: 'no fault', fault: () => sleep(0.5) },
  {
    name: 'node: kill -9, replaced',
    fault: (scene) => scene.fleet.replace(0),
  },
  {
    name: 'node: SIGSTOP, longer than a lease',
    async fault(scene) {
      scene.fleet.signal(0, 'SIGSTOP');
      // After the lease has ended buckets fill up again, so what is left of it would come on top.
      await scene.calm(LONG_SECONDS);
      scene.fleet.signal(0, 'SIGCONT');
      await scene.storm(0.6);
    },
  },
  {
    name: 'node: machine asleep, longer than a lease',
    clocksOf: 'nodes',
    async fault(scene) {
      for (const index of SHIFTED) scene.fleet.signal(index, 'SIGSTOP');
      const stoppedAt = performance.now();
      await scene.calm(LONG_SECONDS);
      scene.clocks.countAsSleep((performance.now() - stoppedAt) / 1000);
      for (const index of SHIFTED) scene.fleet.signal(index, 'SIGCONT');
      await scene.storm(0.6);
    },
  },
  {
    name: `node: wall clock set by +${STEP_SECONDS} s and back`,
    clocksOf: 'nodes',
    async fault(scene) {
      scene.clocks.stepWall(STEP_SECONDS);
      await sleep(0.7);
      scene.clocks.stepWall(-STEP_SECONDS);
      await sleep(0.7);
    },
  },
];

const STORE: readonly Row[] = [
  {
    name: 'store: stands still (SIGSTOP)',
    others: ['share'],
    async fault({ server }) {
      server.signal('SIGSTOP');
      await sleep(OUTAGE_SECONDS);
      server.signal('SIGCONT');
    },
  },
  {
    name: 'store: killed, restarted empty',
    others: ['strict', 'share', 'open'],
    fault: restart,
  },
  {
    name: 'store: killed, restarted from an old state',
    others: ['strict', 'share'],
    async fault(scene) {
      await scene.calm(1);
      await onServer(scene.server.port, (client) => client.save());
      await scene.storm(0.5);
      await restart(scene);
    },
  },
  {
    name: 'store: FLUSHALL',
    others: ['strict'],
    isOnce: true,
    bursts: 1,
    async fault({ fleet, server }) {
      await farFromHeartbeats(fleet);
      await onServer(server.port, (client) => client.flushall());
    },
  },
  {
    name: 'store: SCRIPT FLUSH',
    others: ['strict'],
    async fault({ server }) {
      await onServer(server.port, async (client) => {
        for (let n = 0; n < 5; n += 1) {
          await client.script('FLUSH');
          await sleep(0.1);
        }
      });
    },
  },
  {
    name: 'store: CLIENT KILL, all connections',
    others: ['strict'],
    async fault({ server }) {
      await onServer(server.port, async (client) => {
        for (let n = 0; n < 10; n += 1) {
          await client.call('CLIENT', 'KILL', 'TYPE', 'normal');
          await sleep(0.1);
        }
      });
    },
  },
  {
    name: 'store: CLIENT PAUSE',
    async fault({ server }) {
      const ms = OUTAGE_SECONDS * 1000;
      await onServer(server.port, (client) => client.call('CLIENT', 'PAUSE', String(ms), 'ALL'));
      await sleep(OUTAGE_SECONDS);
    },
  },
  {
    name: `store: clock set back by ${STEP_SECONDS} s`,
    others: ['strict', 'share'],
    clocksOf: 'store',
    async fault({ server, clocks }) {
      // After an outage, since the store then knows a time at which it ended.
      server.signal('SIGSTOP');
      await sleep(0.7);
      server.signal('SIGCONT');
      await sleep(0.5);
      clocks.stepWall(-STEP_SECONDS);
    },
  },
  {
    name: `store: clock set forward by ${STEP_SECONDS} s`,
    others: ['strict'],
    clocksOf: 'store',
    isOnce: true,
    bursts: 1.5,
    fault: async ({ clocks }) => clocks.stepWall(STEP_SECONDS),
  },
  {
    name: 'store: no memory (noeviction)',
    async fault({ server }) {
      await setMaxMemory(server, 1);
      await sleep(1);
      await setMaxMemory(server, 0);
    },
  },
  {
    name: 'store: evicts the peers (maxmemory)',
    others: ['strict'],
    isOnce: true,
    bursts: 1,
    fault: evict,
  },
];

const NETWORK: readonly Row[] = [
  {
    name: 'network: slow, below and above the deadline',
    others: ['share'],
    isRemote: true,
    async fault({ network }) {
      for (const seconds of [0.06, 0.13, 0.3, 0]) {
        network.latency = seconds;
        await sleep(0.6);
      }
    },
  },
  {
    name: 'network: replies lost, commands sent again',
    others: ['strict'],
    isRemote: true,
    async fault({ network }) {
      for (let n = 0; n < 5; n += 1) {
        network.dropsReplies = true;
        await sleep(0.1);
        network.cut();
        network.dropsReplies = false;
        await sleep(0.15);
      }
    },
  },
  {
    name: 'fail-over: replica lags by a heartbeat or more',
    others: ['strict'],
    isRemote: true,
    hasReplica: true,
    isOnce: true,
    fault: (scene) =>
      failOver(scene, async () => {
        await scene.storm(0.4);
        await scene.fleet.untilNextHeartbeat(OTHER);
      }),
  },
  {
    name: 'fail-over: replica lags by less',
    others: ['strict'],
    isRemote: true,
    hasReplica: true,
    isOnce: true,
    bursts: 1,
    async fault(scene) {
      await farFromHeartbeats(scene.fleet);
      await failOver(scene, () => scene.storm(0.4));
    },
  },
];

const CLUSTER: readonly Row[] = [
  {
    name: 'cluster: the slots of all peers move',
    isCluster: true,
    async fault({ cluster, bucketKeys }) {
      // The buckets of rules have one slot, those of a rate limit one for each peer.
      const keys = await cluster.keys(bucketKeys);
      const slots = new Map(keys.map((key) => [/\{.*\}/.exec(key)?.[0], key]));
      for (const key of slots.values()) await cluster.moveSlotOf(key);
    },
  },
  {
    name: 'cluster: a server restarted empty',
    isCluster: true,
    async fault({ cluster, bucketKeys }) {
      const [key] = await cluster.keys(bucketKeys);
      const start = await cluster.killServerOf(key as string);
      await sleep(0.3);
      await start();
    },
  },
];

export const ROWS: readonly Row[] = [...NODES, ...STORE, ...NETWORK, ...CLUSTER];

/** Kills the server, and starts it again with what it has saved, once all nodes have noticed. */
async function restart({ fleet, server }: Scene): Promise<void> {
  await server.kill();
  await fleet.until(({ store }) => store === 'down');
  await sleep(0.3);
  await server.start();
}

async function setMaxMemory({ port }: StoreServer, bytes: number): Promise<void> {
  await onServer(port, (client) => client.config('SET', 'maxmemory', bytes));
}

/** Fills the store until it has evicted all peers. */
async function evict(scene: Scene): Promise<void> {
  // Peers that are checked would be written again.
  scene.fleet.load(0);
  await sleep(0.1);
  await onServer(scene.server.port, async (client) => {
    const used = /used_memory:(\d+)/.exec(await client.info('memory'))?.[1];
    await client.config('SET', 'maxmemory-policy', 'allkeys-random');
    await client.config('SET', 'maxmemory', Number(used) + 2 ** 20);
    for (let n = 0; (await client.keys(scene.bucketKeys)).length > 0; n += 1) {
      const batch = client.pipeline();
      for (let at = 0; at < 100; at += 1) batch.set(`filling-${n}-${at}`, 'x'.repeat(1000));
      await batch.exec();
    }
    await client.config('SET', 'maxmemory', 0);
  });
  await scene.storm(0);
}

/** Resolves when no node sends a heartbeat for some seconds, unless it takes the store for down. */
async function farFromHeartbeats(fleet: Fleet): Promise<void> {
  // They come after 0, 0.5, 1.5, 3.5 and 7.5 seconds.
  await fleet.until(({ beats }) => beats >= 4);
}

/** Replaces the store by its replica, which knows full buckets and stops to follow before `lag` begins. */
async function failOver(scene: Scene, lag: () => Promise<void>): Promise<void> {
  const { network, replica, server } = scene;
  await scene.calm(1.2);
  await onServer(replica.port, (client) => client.replicaof('NO', 'ONE'));
  await lag();
  await server.kill();
  network.target = replica.port;
  network.cut();
}
