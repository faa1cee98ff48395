// The store stopped for ten seconds under load: what becomes of waits, of memory and of the limit.

import { SharedRateLimiter } from 'relay-limiter/redis';
import { expect, it, onTestFinished } from 'vitest';
import { excess } from '../../out/examples/fleet/bound.js';
import { REAL_TIME } from '../support/real-time.js';
import { Flood } from './support/flood.js';
import { CLIENTS, NO_SERVER, sleep, startServer } from './support/store.js';

const SECONDS = 10;
const LIMIT = { rateLimit: 50, burstLimit: 20, onStoreFailure: 'closed' as const };
/** A test runner and a client make garbage as well; a queue of this load would be several times as much. */
const HEAP_BYTES = 16e6;

/** New peers, a thousand times a second: each check would be a call. */
class Newcomers {
  slowest = 0;
  checks = 0;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(limiters: readonly SharedRateLimiter[]) {
    this.#timer = setInterval(() => {
      for (let n = 0; n < 10; n += 1) {
        const limiter = limiters[this.checks % limiters.length] as SharedRateLimiter;
        void this.#check(limiter, `peer-${this.checks % 5000}`);
      }
    }, 10);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #check(limiter: SharedRateLimiter, key: string): Promise<void> {
    this.checks += 1;
    const before = performance.now();
    await limiter.checkAsync(key);
    this.slowest = Math.max(this.slowest, (performance.now() - before) / 1000);
  }
}

it.skipIf(NO_SERVER).concurrent.each([
  ['stands still', 'node-redis'],
  ['is killed', 'ioredis'],
] as const)(
  'a store that %s for ten seconds under load (%s)',
  { timeout: 60_000, ...REAL_TIME },
  async (what, client) => {
    const server = await startServer();
    onTestFinished(() => server.close());
    const clients = await Promise.all([1, 2].map(() => CLIENTS[client](server.url)));
    onTestFinished(() => clients.forEach(({ close }) => void close()));
    const all = clients.map((one) => new SharedRateLimiter({ client: one.client, ...LIMIT }));
    onTestFinished(async () => void (await Promise.all(all.map((one) => one.close()))));
    await Promise.all(all.map((one) => one.ready()));
    const flood = new Flood();
    flood.start(all);
    const newcomers = new Newcomers(all);
    onTestFinished(() => newcomers.stop());
    await sleep(1);

    if (what === 'is killed') await server.kill();
    else server.signal('SIGSTOP');
    await sleep(2);
    const heap = process.memoryUsage().heapUsed;
    const inFlight = all.map((one) => one.getStats().store.inFlight);
    await sleep(SECONDS - 2);
    expect(process.memoryUsage().heapUsed - heap).toBeLessThan(HEAP_BYTES);
    all.forEach((one, at) => {
      expect(one.getStats().store.inFlight).toBeLessThanOrEqual(inFlight[at] as number);
    });
    if (what === 'is killed') await server.start();
    else server.signal('SIGCONT');
    const back = performance.now() / 1000;
    const deadline = { timeout: 1000, interval: 20 };
    await expect
      .poll(() => all.every((one) => one.getStats().store.state === 'up'), deadline)
      .toBe(true);
    await sleep(2);
    newcomers.stop();
    await flood.stop();

    expect(newcomers.checks).toBeGreaterThan(5000);
    // A busy machine adds something to the tenth of a second.
    expect(Math.max(flood.slowest, newcomers.slowest)).toBeLessThan(0.4);
    expect(excess(flood.admissions, LIMIT.rateLimit, LIMIT.burstLimit)).toBeLessThanOrEqual(1e-6);
    const after = flood.admissions.filter(({ at }) => at > back).length;
    expect(after).toBeGreaterThan(20);
    const calls = () => all.some((one) => one.getStats().store.inFlight > 0);
    // A beat may be under way.
    for (let n = 0; n < 50 && calls(); n += 1) await sleep(0.02);
    for (const one of all) expect(one.getStats().store).toMatchObject({ state: 'up', inFlight: 0 });
  },
);
