// SharedBans on a real server: what the tests of it share.

import { createClient } from 'redis';
import { SharedBans, type SharedBansOptions } from 'relay-limiter/redis';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import type { StoreServer } from '../../../out/examples/fleet/server.js';
import { type CLIENTS, NO_DEADLINE, nodeRedis, startServer } from './store.js';

export const STORE = 'ERR_LIMITER_STORE';

export type NodeRedis = ReturnType<typeof createClient>;

export function code(error: unknown): unknown {
  return (error as { code?: unknown } | undefined)?.code;
}

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** Calls `close` when the test is over; the last one is called first. */
export function closeAfterTest(close: () => unknown): void {
  closers.push(close);
}

let server: StoreServer;

/** Starts a server before the tests of a suite and stops it after them. Call this in the suite. */
export function withServer(): void {
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server.close());
}

/** That server. */
export function ownServer(): StoreServer {
  return server;
}

/** A client that reads and changes what is in the store. */
export async function admin(): Promise<NodeRedis> {
  const client = createClient({ url: server.url });
  await client.connect();
  closeAfterTest(() => client.destroy());
  return client as NodeRedis;
}

/** A SharedBans that is up. */
export async function bans(
  prefix: string,
  {
    url = server.url,
    connect = nodeRedis,
    ...options
  }: Partial<SharedBansOptions> & {
    url?: string;
    connect?: (typeof CLIENTS)['ioredis'];
  } = {},
): Promise<SharedBans> {
  const { client, close } = await connect(url);
  closeAfterTest(close);
  const made = new SharedBans({ client, prefix, ...NO_DEADLINE, ...options });
  closeAfterTest(() => made.close());
  await expect.poll(() => made.getStats().state).toBe('up');
  return made;
}
