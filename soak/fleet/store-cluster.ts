// StoreCluster: a cluster of three servers on this machine. It can move a hash slot from one server to another.

import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from 'redis';
import { type ReservedPort, reservePort, StoreServer } from '../../examples/fleet/server.js';
import { clusterIoRedis, clusterNodeRedis, type OwnClient } from './clients.js';

const SLOTS = 16_384;
const SIZE = 3;
/** So long that slow servers do not mark each other as failed. */
const NODE_TIMEOUT_MS = '600000';

type Admin = Awaited<ReturnType<typeof adminOf>>;

export class StoreCluster {
  /** The ports on which the servers talk to each other. */
  readonly #buses: ReservedPort[] = [];
  readonly #servers: StoreServer[] = [];
  readonly #admins: Admin[] = [];
  readonly #ids: string[] = [];
  /** The servers of the slots that have moved. */
  readonly #movedSlots = new Map<number, number>();

  private constructor() {}

  /** `program`: of the server. */
  static async start(program: string): Promise<StoreCluster> {
    const cluster = new StoreCluster();
    try {
      await cluster.#startServers(program);
      await cluster.#join();
      return cluster;
    } catch (error) {
      await cluster.close();
      throw error;
    }
  }

  async #startServers(program: string): Promise<void> {
    for (let at = 0; at < SIZE; at += 1) this.#buses.push(await reservePort());
    const starts = this.#buses.map(({ port }) => {
      const bus = ['--cluster-port', String(port)];
      const timeout = ['--cluster-node-timeout', NODE_TIMEOUT_MS];
      return StoreServer.start(program, ['--cluster-enabled', 'yes', ...timeout, ...bus]);
    });
    const started = await Promise.allSettled(starts);
    for (const start of started) if (start.status === 'fulfilled') this.#servers.push(start.value);
    await Promise.all(starts);
    for (const { url } of this.#servers) {
      const admin = await adminOf(url);
      this.#admins.push(admin);
      this.#ids.push(String(await command(admin, 'CLUSTER MYID')));
    }
  }

  /** Gives each server a third of the slots, and makes all of them one cluster. */
  async #join(): Promise<void> {
    const share = Math.ceil(SLOTS / SIZE);
    for (const [at, admin] of this.#admins.entries()) {
      const last = Math.min((at + 1) * share, SLOTS) - 1;
      await command(admin, `CLUSTER ADDSLOTSRANGE ${at * share} ${last}`);
      const [first, bus] = [this.#servers[0]?.port, this.#buses[0]?.port];
      if (at > 0) await command(admin, `CLUSTER MEET 127.0.0.1 ${first} ${bus}`);
    }
    await this.#untilSettled();
  }

  get ports(): number[] {
    return this.#servers.map(({ port }) => port);
  }

  nodeRedis(): Promise<OwnClient> {
    return clusterNodeRedis(this.ports);
  }

  ioRedis(): Promise<OwnClient> {
    return clusterIoRedis(this.ports);
  }

  /** Moves the hash slot of a key to the next server, key by key, as redis-cli does. */
  async moveSlotOf(key: string): Promise<void> {
    const { slot, at: from } = await this.#placeOf(key);
    const to = (from + 1) % SIZE;
    this.#movedSlots.set(slot, to);
    const source = this.#admins[from] as Admin;
    const target = this.#admins[to] as Admin;
    await command(target, `CLUSTER SETSLOT ${slot} IMPORTING ${this.#ids[from]}`);
    await command(source, `CLUSTER SETSLOT ${slot} MIGRATING ${this.#ids[to]}`);
    await sleep(100);
    const keys = (await command(source, `CLUSTER GETKEYSINSLOT ${slot} 1000`)) as string[];
    for (const one of keys) {
      const port = String(this.#servers[to]?.port);
      await source.sendCommand(['MIGRATE', '127.0.0.1', port, one, '0', '3600000']);
      await sleep(50);
    }
    for (const admin of [target, source, ...this.#admins]) {
      await command(admin, `CLUSTER SETSLOT ${slot} NODE ${this.#ids[to]}`);
    }
  }

  /** Kills the server of a key; its data is lost. Returns a function that starts it again. */
  async killServerOf(key: string): Promise<() => Promise<void>> {
    const { at } = await this.#placeOf(key);
    const server = this.#servers[at] as StoreServer;
    await server.kill();
    return () => server.start();
  }

  /** Sends a command to each server. */
  async sendToAll(words: string): Promise<void> {
    for (const admin of this.#admins) await command(admin, words);
  }

  /** Returns the keys of all servers that fit a pattern. */
  async keys(pattern: string): Promise<string[]> {
    return (await Promise.all(this.#admins.map((admin) => admin.keys(pattern)))).flat();
  }

  /** Returns the number of keys on each server. */
  async sizes(): Promise<number[]> {
    return Promise.all(this.#admins.map((admin) => admin.dbSize()));
  }

  /** Returns the number of subscriptions to a channel on all servers: to the sharded one, and to the other one. */
  async subscriptions(channel: string): Promise<{ sharded: number; plain: number }> {
    const count = async (words: string) => {
      const replies = await Promise.all(
        this.#admins.map((admin) => command(admin, `${words} ${channel}`)),
      );
      return replies.reduce((sum: number, reply) => sum + Number((reply as unknown[])[1]), 0);
    };
    const sharded = await count('PUBSUB SHARDNUMSUB');
    return { sharded, plain: await count('PUBSUB NUMSUB') };
  }

  async close(): Promise<void> {
    for (const admin of this.#admins) admin.destroy();
    try {
      await Promise.all(this.#servers.map((server) => server.close()));
    } finally {
      for (const bus of this.#buses) bus.release();
    }
  }

  /** Returns the hash slot of a key and the index of its server. */
  async #placeOf(key: string): Promise<{ slot: number; at: number }> {
    const slot = Number(await command(this.#admins[0] as Admin, `CLUSTER KEYSLOT ${key}`));
    const at = this.#movedSlots.get(slot) ?? Math.floor(slot / Math.ceil(SLOTS / SIZE));
    return { slot, at };
  }

  async #untilSettled(): Promise<void> {
    for (const admin of this.#admins) {
      for (;;) {
        const info = String(await command(admin, 'CLUSTER INFO'));
        if (info.includes('cluster_state:ok') && info.includes('cluster_known_nodes:3')) break;
        await sleep(50);
      }
    }
  }
}

async function adminOf(url: string) {
  const admin = createClient({ url });
  admin.on('error', () => {});
  await admin.connect();
  return admin;
}

function command(admin: Admin, words: string): Promise<unknown> {
  return admin.sendCommand(words.split(' '));
}
