// Scene: a store and a fleet under load, and what the faults of rows.ts need.

import { setTimeout as wait } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { StoreServer } from '../../examples/fleet/server.js';
import { interruption } from '../../examples/interruption.js';
import { BadNetwork } from './bad-network.js';
import { Fleet } from './fleet.js';
import type { FleetLog } from './log.js';
import type { FleetLimit } from './messages.js';
import type { ShiftedClocks } from './shifted-clocks.js';
import { StoreCluster } from './store-cluster.js';
import { BUCKET_KEYS } from './subject.js';

/** What a row needs beside a server and nodes. */
export interface Needs {
  /** Whose clocks can be set. Of the nodes these are 0 and 1: one with each client, and one with each engine. */
  readonly clocksOf?: 'store' | 'nodes';
  /** Whether the nodes reach the store over a bad network. */
  readonly isRemote?: boolean;
  /** Whether the server has a replica. */
  readonly hasReplica?: boolean;
  readonly isCluster?: boolean;
}

/** What is the same for all runs. */
export interface Tools {
  /** The server's program. */
  readonly program: string;
  /** Undefined if this machine cannot shift clocks. */
  readonly clocks: ShiftedClocks | undefined;
}

/** Checks per second of a node: each peer uses a quarter of its rate in a calm, and a multiple of it in a storm. */
const CALM = 9;
const STORM = 300;
const SHIFTED_NODES = [0, 1];

export class Scene {
  readonly #tools: Tools;
  readonly #closers: (() => unknown)[] = [];
  #fleet: Fleet | undefined;
  #server: StoreServer | undefined;
  #replica: StoreServer | undefined;
  #network: BadNetwork | undefined;
  #cluster: StoreCluster | undefined;

  /** The pattern of the store's keys of buckets. */
  readonly bucketKeys: string;

  private constructor(tools: Tools, { limiter }: FleetLimit) {
    this.#tools = tools;
    this.bucketKeys = BUCKET_KEYS[limiter];
  }

  static async start(tools: Tools, needs: Needs, limit: FleetLimit): Promise<Scene> {
    const scene = new Scene(tools, limit);
    try {
      await scene.#start(needs, limit);
    } catch (error) {
      await scene.close();
      throw error;
    }
    return scene;
  }

  get fleet(): Fleet {
    return this.#fleet as Fleet;
  }

  get server(): StoreServer {
    return this.#server as StoreServer;
  }

  get replica(): StoreServer {
    return this.#replica as StoreServer;
  }

  get network(): BadNetwork {
    return this.#network as BadNetwork;
  }

  get cluster(): StoreCluster {
    return this.#cluster as StoreCluster;
  }

  get clocks(): ShiftedClocks {
    return this.#tools.clocks as ShiftedClocks;
  }

  /** Lets leases grow and buckets fill up for some seconds. */
  async calm(seconds: number): Promise<void> {
    this.fleet.load(CALM);
    await sleep(seconds);
  }

  /** Spends all that there is, for some seconds. */
  async storm(seconds: number): Promise<void> {
    this.fleet.load(STORM);
    await sleep(seconds);
  }

  /** Ends the nodes and returns what they have logged. */
  end(): Promise<FleetLog> {
    return this.fleet.end();
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) await close();
  }

  async #start(needs: Needs, limit: FleetLimit): Promise<void> {
    const { program, clocks } = this.#tools;
    clocks?.reset();
    const env = (owner: Needs['clocksOf']) => (needs.clocksOf === owner ? clocks?.env : undefined);
    const ports: number[] = [];
    if (needs.isCluster) {
      const cluster = await StoreCluster.start(program);
      this.#cluster = cluster;
      this.#closers.push(() => cluster.close());
      ports.push(...cluster.ports);
    } else {
      const server = await StoreServer.start(program, [], env('store'));
      this.#server = server;
      this.#closers.push(() => server.close());
      ports.push(server.port);
    }
    if (needs.hasReplica) {
      const source = ['--replicaof', '127.0.0.1', String(this.server.port)];
      const replica = await StoreServer.start(program, source);
      this.#replica = replica;
      this.#closers.push(() => replica.close());
      await untilCopied(this.server, replica);
    }
    if (needs.isRemote) {
      const network = await BadNetwork.start(this.server.port);
      this.#network = network;
      this.#closers.push(() => network.close());
      ports[0] = network.port;
    }
    const fleet = await Fleet.start(ports, limit, (index) => {
      return SHIFTED_NODES.includes(index) ? env('nodes') : undefined;
    });
    this.#fleet = fleet;
    this.#closers.push(() => fleet.close());
  }
}

/** @throws an AbortError if the command is interrupted. */
export async function sleep(seconds: number): Promise<void> {
  await wait(seconds * 1000, undefined, { signal: interruption });
}

/** Resolves when a replica has what its server has. */
async function untilCopied(server: StoreServer, replica: StoreServer): Promise<void> {
  await onServer(server.port, (client) => client.config('SET', 'repl-diskless-sync-delay', 0));
  await onServer(replica.port, async (client) => {
    while (!(await client.info('replication')).includes('master_link_status:up')) await sleep(0.05);
  });
}

/** Runs commands on a server over a connection of their own. */
export async function onServer<T>(port: number, act: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis({ port, host: '127.0.0.1' });
  client.on('error', () => {});
  try {
    return await act(client);
  } finally {
    client.disconnect();
  }
}
