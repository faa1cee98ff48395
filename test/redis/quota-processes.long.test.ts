// Several processes with one quota and a real store: together they take no more than the quota in any interval of its
// window, and a refusal that one process receives stops the others.

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
const WINDOW_SECONDS = 1;
/** Rounding errors of sums of times. */
const ROUNDING = 1e-6;

/** A take, between two times in seconds. */
interface Take {
  after: number;
  before: number;
}

describe.skipIf(NO_SERVER)('SharedPolicyLimiter in three processes', () => {
  let store: StoreServer;
  let server: Server;
  let arrivals = 0;
  let takes: Take[] = [];
  const statuses = new Set<number>();
  /** Until when the server refuses everything, by `performance.now()`. */
  let closedUntil = 0;
  let refusedWhileClosed = 0;
  const processes: ChildProcess[] = [];

  beforeEach(async () => {
    store = await startServer();
    arrivals = 0;
    takes = [];
    statuses.clear();
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
      arrivals += 1;
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

  async function start(algorithm: string, ways: readonly string[]): Promise<void> {
    const { port } = server.address() as AddressInfo;
    const options = {
      ...{ url: store.url, server: `http://127.0.0.1:${port}/`, name: 'api', algorithm },
      policies: [{ quota: QUOTA, windowSeconds: WINDOW_SECONDS }],
      onStoreFailure: 'closed',
    };
    for (const by of ways) {
      const child = fork(PROCESS, [JSON.stringify({ ...options, by })]);
      child.on('message', ({ take, status }: { take?: Take; status?: number }) => {
        if (take !== undefined) takes.push(take);
        if (status !== undefined) statuses.add(status);
      });
      processes.push(child);
    }
    await Promise.all(processes.map((process) => once(process, 'message')));
    for (const process of processes) process.send('go');
  }

  it.each(['sliding', 'bucket'])(
    'take together no more than the quota in any window, also if one of them is killed: %s',
    async (algorithm) => {
      await start(algorithm, ['tryAcquire', 'tryAcquire', 'tryAcquire']);
      await until(() => takes.length >= 1.5 * QUOTA);
      processes[0]?.kill('SIGKILL');
      await until(() => takes.length >= 3 * QUOTA);
      for (const { before } of takes) {
        const since = before - WINDOW_SECONDS + ROUNDING;
        const inWindow = takes.filter((take) => take.after > since && take.before <= before);
        expect(inWindow.length).toBeLessThanOrEqual(QUOTA);
      }
    },
  );

  it('stop when one of them is refused, with limitFetch and with the interceptor', async () => {
    await start('bucket', ['fetch', 'fetch', 'undici']);
    await until(() => arrivals >= QUOTA / 2);
    closedUntil = performance.now() + 2000;
    await until(() => performance.now() > closedUntil && statuses.has(429));
    // Each process may have some requests under way, and what it holds is used before it hears of the block.
    expect(refusedWhileClosed).toBeGreaterThan(0);
    expect(refusedWhileClosed).toBeLessThanOrEqual(QUOTA);
    expect([...statuses].sort()).toEqual([200, 429]);
    const before = arrivals;
    await until(() => arrivals > before);
  });
});
