// A real server for tests: that of REDIS_URL, else one found on the PATH. Where there is none these tests are skipped
// (find-server.ts says so). Tests that stop a server, or start it with flags, need one of their own.

import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import { createClient, RESP_TYPES } from 'redis';
import {
  findServer,
  INSTALL_ADVICE,
  type Store,
  StoreServer,
} from '../../../out/examples/fleet/server.js';

const given = process.env['REDIS_URL'] || undefined;
const program = findServer();

/** Why there are no tests with a server that they start themselves; false where there are. */
export const NO_SERVER: string | false =
  program === undefined ? `no redis-server: ${INSTALL_ADVICE}` : false;

/** Why there are no tests on a real server, whosever it is. */
export const NO_STORE: string | false = given === undefined && NO_SERVER;

/** What keys of a test begin with: nobody else's, in a store that has other users too. */
export const PREFIX = `relay-limiter-test-${randomUUID()}`;

/** The server of REDIS_URL, which is not ours: never flushed, never stopped. Else one that is. */
export async function anyStore(): Promise<Store> {
  return given === undefined ? startServer() : { url: given, close: () => forget(given) };
}

/** Deletes what tests have left under their prefix. */
async function forget(url: string): Promise<void> {
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
 * Longer than any test: for those that are not about a store that answers late. Not for a store that loses its data,
 * since buckets then stay empty for twice as long.
 */
export const NO_DEADLINE = { deadlineSeconds: 3600 } as const;

/** A client that comes back fast, and what closes it. */
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

/** A client whose user wants texts for numbers, and of node-redis buffers for texts. */
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

/** Waits until something holds; the test's own time is the limit. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await sleep(0.01);
}

export function sleep(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
