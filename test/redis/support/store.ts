// Real servers for tests: that of REDIS_URL, otherwise one found on the PATH. Without either, these tests are skipped
// (find-server.ts prints that). Tests that stop a server, or start it with flags, need a server of their own.

import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import { createClient, RESP_TYPES } from 'redis';
import { afterAll, beforeAll } from 'vitest';
import {
  findServer,
  INSTALL_ADVICE,
  type Store,
  StoreServer,
} from '../../../out/examples/fleet/server.js';

const given = process.env['REDIS_URL'] || undefined;
const program = findServer();

/** Why tests that start a server themselves are skipped; false if they run. */
export const NO_SERVER: string | false =
  program === undefined ? `no redis-server: ${INSTALL_ADVICE}` : false;

/** Why tests that need any real server are skipped; false if they run. */
export const NO_STORE: string | false = given === undefined && NO_SERVER;

/** What all keys of a test run begin with. It is random, because a store of REDIS_URL may have other users. */
export const PREFIX = `relay-limiter-test-${randomUUID()}`;

/** The server of REDIS_URL, which tests neither flush nor stop, or a server of the tests' own. */
export async function anyStore(): Promise<Store> {
  return given === undefined ? startServer() : { url: given, close: () => deleteKeys(given) };
}

/** A store, and a client of node-redis, for the tests of a `describe` block: from before them until after them. */
export function storeOfTests(): {
  readonly server: Store;
  readonly client: ReturnType<typeof createClient>;
} {
  const real = {} as { server: Store; client: ReturnType<typeof createClient> };
  beforeAll(async () => {
    real.server = await anyStore();
    real.client = createClient({ url: real.server.url });
    await real.client.connect();
  });
  afterAll(async () => {
    real.client.destroy();
    await real.server.close();
  });
  return real;
}

/** Deletes all keys of this test run. */
async function deleteKeys(url: string): Promise<void> {
  const client = createClient({ url });
  await client.connect();
  for await (const keys of client.scanIterator({ MATCH: `${PREFIX}*` })) {
    if (keys.length > 0) await client.del(keys);
  }
  await client.close();
}

export function startServer(flags: readonly string[] = []): Promise<StoreServer> {
  return StoreServer.start(program as string, flags);
}

/**
 * A deadline longer than any test, for tests that are not about late replies. It does not suit tests in which the store
 * loses its data, because buckets then stay empty for twice the deadline.
 */
export const NO_DEADLINE = { deadlineSeconds: 3600 } as const;

/** A client that reconnects fast. */
export interface TestClient {
  client: object;
  close(): void;
}

export async function nodeRedis(url: string): Promise<TestClient> {
  const client = createClient({ url, socket: { reconnectStrategy: 50 } });
  client.on('error', () => {});
  await client.connect();
  return { client, close: () => client.destroy() };
}

export async function ioRedis(url: string): Promise<TestClient> {
  const client = new Redis(url, { retryStrategy: () => 50, maxRetriesPerRequest: null });
  client.on('error', () => {});
  await client.ping();
  return { client, close: () => client.disconnect() };
}

/** A client that maps numbers to strings and, if it is of node-redis, strings to buffers. */
export async function mappingClient(which: string, url: string): Promise<TestClient> {
  if (which === 'ioredis') {
    const client = new Redis(url, { stringNumbers: true });
    return { client, close: () => client.disconnect() };
  }
  const client = await createClient({ url }).connect();
  const mapping = { [RESP_TYPES.BLOB_STRING]: Buffer, [RESP_TYPES.NUMBER]: String };
  return { client: client.withTypeMapping(mapping), close: () => client.destroy() };
}

export const CLIENTS = { 'node-redis': nodeRedis, ioredis: ioRedis } as const;

/** Resolves once a condition holds. The test's own timeout is the limit. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await sleep(0.01);
}

export function sleep(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
