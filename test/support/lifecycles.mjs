// Limiters of all kinds that do everything at once: for tests of how they end. In a thread of its
// own it goes on until it is ended; its data is where the package is, and what it is to be ended in.

import { parentPort, workerData } from 'node:worker_threads';

const keys = Array.from({ length: 300 }, (_, n) => `peer-${n}`);

const RULES = {
  messages: { scope: 'connection', rateLimit: 1e-6, burstLimit: 1 },
  events: { scope: 'account', rateLimit: 1e-6, burstLimit: 3 },
};

export function create({
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter,
}) {
  const cleanup = { everySeconds: 0.02 };
  const limiter = new RateLimiter({ rateLimit: 1e-6, burstLimit: 1, cleanup });
  const nicks = new OrderbookRateLimiter({ violationBanThreshold: 1, cleanup });
  const connections = new DirectConnectionRateLimiter({ orderbookBanThreshold: 1, cleanup });
  const rules = new RuleLimiter({
    scopes: { connection: {}, account: {} },
    rules: RULES,
    bans: { connection: { violations: 2, withinSeconds: 60, seconds: 60 } },
    cleanup,
  });
  const group = limiter.group(keys);
  const peers = [
    ...keys.slice(0, 20).map((key) => nicks.open(key)),
    ...keys.slice(0, 20).map((key) => rules.open({ connection: key, account: key })),
  ];
  return { limiter, nicks, connections, rules, group, peers };
}

export function use({ limiter, nicks, connections, rules, group, peers }) {
  group.check();
  for (const peer of peers) peer.check();
  for (const key of keys) {
    limiter.check(key);
    nicks.check(key);
    connections.checkMessage(key);
    connections.checkOrderbook(key);
    rules.check({ connection: key, account: 'shared' });
  }
  limiter.getStats();
  nicks.restore(nicks.snapshot());
  rules.update({ rules: RULES });
  rules.restore(rules.snapshot());
}

/** What a thread repeats. Where a call is short it is ended between two steps of it, as like as not. */
const ACTS = {
  check: ({ limiters }) => use(limiters),
  snapshot: ({ few }) => few.snapshot(),
  load: ({ addon }) => process.dlopen({ exports: {} }, addon),
};

if (workerData?.library !== undefined) {
  const { library, endedIn = 'check', addon } = workerData;
  const code = await import(library);
  const limiters = create(code);
  use(limiters);
  const few = new code.OrderbookRateLimiter({ violationBanThreshold: 0 });
  few.check('peer');
  parentPort.postMessage(limiters.limiter.engine);
  for (;;) ACTS[endedIn]({ limiters, few, addon });
}
