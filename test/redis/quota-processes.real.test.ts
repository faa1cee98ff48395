// Several processes with one quota and a real store. A server that counts exact sliding windows sees no more than the quota,
// and a refusal that one process receives stops the others.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { StoreServer } from '../../out/examples/fleet/server.js';
import { NO_SERVER, startServer, until } from './support/store.js';

const PROCESS = fileURLToPath(new URL('support/quota-process.mjs', import.meta.url));
const QUOTA = 40;
const WINDOW_SECONDS = 2;
/** The requests of a quota reach the server by different times. The processes make their windows longer by it. */
const JITTER_SECONDS = 0.5;

describe.skipIf(NO_SERVER)('SharedPolicyLimiter in three processes', () => {
  let store: StoreServer;
  let server: Server;
  let arrivals: number[] = [];
  /** Until when the server refuses everything, by `performance.now()`. */
  let closedUntil = 0;
  let refusedWhileClosed = 0;
  const processes: ChildProcess[] = [];

  beforeEach(async () => {
    store = await startServer();
    arrivals = [];
    closedUntil = 0;
    refusedWhileClosed = 0;
    server = createServer((_, response) => {
      const now = performance.now();
      if (now < closedUntil) {
        refusedWhileClosed += 1;
        const seconds = Math.ceil((closedUntil - now) / 1000);
        response.writeHead(429, { 'retry-after': String(seconds) }).end();
        return;
      }
      arrivals.push(now);
      response.end('done');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterEach(async () => {
    for (const process of processes.splice(0)) process.kill('SIGKILL');
    server.closeAllConnections();
    server.close();
    await store.close();
  });

  async function start(algorithm: 'bucket' | 'sliding'): Promise<void> {
    const { port } = server.address() as AddressInfo;
    const options = {
      ...{ url: store.url, server: `http://127.0.0.1:${port}/`, name: 'api', algorithm },
      policies: [{ quota: QUOTA, windowSeconds: WINDOW_SECONDS }],
      ...{ jitterSeconds: JITTER_SECONDS, onStoreFailure: 'closed' },
    };
    for (const by of ['fetch', 'fetch', 'undici']) {
      processes.push(fork(PROCESS, [JSON.stringify({ ...options, by })]));
    }
    await Promise.all(processes.map((process) => once(process, 'message')));
    for (const process of processes) process.send('go');
  }

  it.each(['sliding', 'bucket'] as const)(
    'keeps the quota of a server with sliding windows, also if one process is killed: %s',
    async (algorithm) => {
      await start(algorithm);
      await until(() => arrivals.length >= 1.5 * QUOTA);
      processes[0]?.kill('SIGKILL');
      await until(() => arrivals.length >= 4 * QUOTA);
      let first = 0;
      arrivals.forEach((at, index) => {
        while ((arrivals[first] as number) <= at - WINDOW_SECONDS * 1000) first += 1;
        expect(index - first + 1).toBeLessThanOrEqual(QUOTA);
      });
    },
  );

  it('stops all processes when one is refused', async () => {
    await start('bucket');
    await until(() => arrivals.length >= QUOTA / 2);
    closedUntil = performance.now() + 4000;
    await until(() => performance.now() > closedUntil);
    // Each process may have some requests under way, and what it holds is used before it hears of the block.
    expect(refusedWhileClosed).toBeGreaterThan(0);
    expect(refusedWhileClosed).toBeLessThanOrEqual(QUOTA);
    const before = arrivals.length;
    await until(() => arrivals.length > before);
  });
});
