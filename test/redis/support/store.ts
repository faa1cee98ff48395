// A real server for tests: found on the PATH, or installed where that can be done without asking. Where
// there is none these tests are skipped, and say so.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { Redis } from 'ioredis';
import { createClient } from 'redis';
import { findServer, INSTALL_ADVICE, StoreServer } from '../../../out/examples/fleet/server.js';

const program = findServer() ?? installed();

/** Why there are no tests on a real server; false where there are. */
export const NO_SERVER: string | false =
  program === undefined ? `no redis-server: ${INSTALL_ADVICE}` : false;
if (NO_SERVER) console.warn(`skipped: ${NO_SERVER}`);

function installed(): string | undefined {
  const isDebian =
    existsSync('/etc/os-release') &&
    /^ID(_LIKE)?=.*(debian|ubuntu)/m.test(readFileSync('/etc/os-release', 'utf8'));
  if (!isDebian || process.getuid?.() !== 0) return undefined;
  const wait = ['-qq', '-o', 'DPkg::Lock::Timeout=120'];
  const options = { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
  spawnSync('apt-get', ['update', ...wait], options);
  spawnSync(
    'apt-get',
    ['install', '-y', '--no-install-recommends', ...wait, 'redis-server'],
    options,
  );
  return findServer();
}

export function startServer(flags: readonly string[] = []): Promise<StoreServer> {
  return StoreServer.start(program as string, flags);
}

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

export const CLIENTS = { 'node-redis': nodeRedis, ioredis: ioRedis } as const;

export function sleep(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
