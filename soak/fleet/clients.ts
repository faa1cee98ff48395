// Clients of node-redis and ioredis that connect again soon.

import { Cluster, Redis } from 'ioredis';
import { createClient, createCluster } from 'redis';

export interface OwnClient {
  client: object;
  close(): void;
}

const HOST = '127.0.0.1';
/** Milliseconds between two attempts to connect. */
const RETRY_MS = 50;

const ignore = () => {};

/** Connects to the server of a port. */
export const CONNECT = {
  async 'node-redis'(port: number): Promise<OwnClient> {
    const client = createClient({
      socket: { host: HOST, port, reconnectStrategy: RETRY_MS },
    }).on('error', ignore);
    await client.connect();
    return { client, close: () => client.destroy() };
  },

  async ioredis(port: number): Promise<OwnClient> {
    const client = new Redis({ host: HOST, port, retryStrategy: () => RETRY_MS });
    client.on('error', ignore);
    await client.ping();
    return { client, close: () => client.disconnect() };
  },
};

export type ClientName = keyof typeof CONNECT;

/** Connects to a cluster with servers at these ports. */
export async function clusterNodeRedis(ports: readonly number[]): Promise<OwnClient> {
  const socket = { reconnectStrategy: RETRY_MS };
  const rootNodes = ports.map((port) => ({ url: `redis://${HOST}:${port}` }));
  const client = createCluster({ rootNodes, defaults: { socket } }).on('error', ignore);
  await client.connect();
  return { client, close: () => client.destroy() };
}

export async function clusterIoRedis(ports: readonly number[]): Promise<OwnClient> {
  const servers = ports.map((port) => ({ host: HOST, port }));
  const client = new Cluster(servers, { clusterRetryStrategy: () => RETRY_MS });
  client.on('error', ignore);
  await client.ping();
  return { client, close: () => client.disconnect() };
}
