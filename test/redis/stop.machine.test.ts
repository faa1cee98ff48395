// Memory of a process with a store that is stopped or killed under load: no queue of calls grows.

import { SharedRateLimiter } from 'relay-limiter/redis';
import { expect, it, onTestFinished } from 'vitest';
import { collectGarbage } from '../support/garbage.js';
import { CLIENTS, NO_SERVER, startServer } from './support/store.js';

const CHECKS = 200_000;
/** A call in a queue takes more than half a kilobyte, so a queue of all calls would take 100 MB. */
const MAX_BYTES = 16e6;

function heapBytes(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

it.skipIf(NO_SERVER).each([
  ['is stopped', 'node-redis'],
  ['is killed', 'ioredis'],
] as const)('SharedRateLimiter queues no calls for a store that %s (%s)', async (what, name) => {
  const server = await startServer();
  onTestFinished(() => server.close());
  const { client, close } = await CLIENTS[name](server.url);
  onTestFinished(close);
  const limiter = new SharedRateLimiter({ client, onStoreFailure: 'closed' });
  onTestFinished(() => limiter.close());
  await expect.poll(async () => (await limiter.checkAsync('p'))[0]).toBe('allow');
  if (what === 'is killed') await server.kill();
  else server.signal('SIGSTOP');
  /** Makes checks of different peers, a thousand at a time. */
  const check = async (first: number, checks: number) => {
    for (let peer = first; peer < first + checks; peer += 1000) {
      await Promise.all(Array.from({ length: 1000 }, (_, n) => limiter.checkAsync(`${peer + n}`)));
    }
  };
  await check(0, CHECKS / 10);
  await expect.poll(() => limiter.getStats().store.state).toBe('down');
  const before = heapBytes();
  await check(CHECKS, CHECKS);
  expect(heapBytes() - before).toBeLessThan(MAX_BYTES);
});
