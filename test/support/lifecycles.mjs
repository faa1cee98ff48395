// Limiters of all three kinds that do everything at once: for tests of how they end. In a thread of its
// own it goes on until it is ended; its data is where the package is.

import { parentPort, workerData } from 'node:worker_threads';

const keys = Array.from({ length: 300 }, (_, n) => `peer-${n}`);

export function create({ DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter }) {
  const cleanup = { everySeconds: 0.02 };
  const limiter = new RateLimiter({ rateLimit: 1e-6, burstLimit: 1, cleanup });
  const nicks = new OrderbookRateLimiter({ violationBanThreshold: 1, cleanup });
  const connections = new DirectConnectionRateLimiter({ orderbookBanThreshold: 1, cleanup });
  const group = limiter.group(keys);
  const peers = keys.slice(0, 20).map((key) => nicks.open(key));
  return { limiter, nicks, connections, group, peers };
}

export function use({ limiter, nicks, connections, group, peers }) {
  group.check();
  for (const peer of peers) peer.check();
  for (const key of keys) {
    limiter.check(key);
    nicks.check(key);
    connections.checkMessage(key);
    connections.checkOrderbook(key);
  }
  limiter.getStats();
  nicks.restore(nicks.snapshot());
}

if (workerData?.library !== undefined) {
  const limiters = create(await import(workerData.library));
  use(limiters);
  parentPort.postMessage(limiters.limiter.engine);
  for (;;) use(limiters);
}
