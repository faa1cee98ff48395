// What the package makes for itself (timers, signs of life, connections, queues) is made in no caller's async context: it
// would keep the stores of a request's AsyncLocalStorage for as long as it lives. Timers are stubs that carry the
// context in which they are made, as Node's do, and ring when a test says so.

import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import { syncBuiltinESMExports } from 'node:module';
import { Server } from 'node:net';
import perfHooks from 'node:perf_hooks';
import { RateLimiter } from 'relay-limiter';
import { PolicyLimiter } from 'relay-limiter/client';
import { createDashboard } from 'relay-limiter/dashboard';
import { keepSnapshot } from 'relay-limiter/persist';
import { SharedBans, SharedRateLimiter } from 'relay-limiter/redis';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Scheduler, scheduler } from '../dist/limiters/background-cleanup.js';
import { Deadlines, Pending } from '../dist/redis/store/deadlines.js';
import { ENGINES, manualClock } from './support/limiters.js';
import { guardedVirtually } from './ws/virtual.js';

const context = new AsyncLocalStorage<string>();
const contextNow = () => context.getStore();

interface StubTimer {
  /** The store of whoever made it. */
  readonly store: string | undefined;
  ring(): void;
}

let timers: StubTimer[] = [];

beforeEach(() => {
  timers = [];
  const make = (act: (...args: unknown[]) => void, _ms?: number, ...args: unknown[]) => {
    const ring = AsyncResource.bind(() => act(...args));
    const timer = { store: contextNow(), ring, unref: () => timer };
    timers.push(timer);
    return timer;
  };
  const clear = (timer: unknown) => {
    timers = timers.filter((other) => other !== timer);
  };
  for (const name of ['setTimeout', 'setInterval'] as const) {
    vi.spyOn(globalThis, name).mockImplementation(make as never);
  }
  for (const name of ['clearTimeout', 'clearInterval'] as const) {
    vi.spyOn(globalThis, name).mockImplementation(clear);
  }
});
afterEach(() => {
  vi.restoreAllMocks();
});

const stores = () => timers.map(({ store }) => store);
/** Rings the oldest timer. */
const ring = () => (timers.shift() as StubTimer).ring();
const allMicrotasks = () => new Promise((resolve) => setImmediate(resolve));

test.each(ENGINES)('a background cleanup reads the clock in no context, engine %s', (engine) => {
  const own = new Scheduler();
  vi.spyOn(scheduler, 'add').mockImplementation((cleanup) => own.add(cleanup));
  vi.spyOn(scheduler, 'delete').mockImplementation((cleanup) => own.delete(cleanup));
  const now = vi.spyOn(performance, 'now').mockReturnValue(0);
  const seen: unknown[] = [];
  const clock = () => {
    seen.push(contextNow());
    return 1;
  };
  const options = { engine, clock, cleanup: { everySeconds: 1 } };
  const limiter = context.run('maker', () => new RateLimiter(options));
  for (const time of [1000, 2000]) {
    now.mockReturnValue(time);
    ring();
  }
  expect(seen).toEqual([undefined, undefined]);
  // A check's is its caller's.
  context.run('caller', () => limiter.check('peer'));
  expect(seen[2]).toBe('caller');
  limiter.close();
});

test('keepSnapshot saves outside of any context, and the last time in the context of `stop`', async () => {
  const seen: unknown[] = [];
  const limiter = {
    snapshot() {
      seen.push(contextNow());
      throw new Error('no snapshot today');
    },
    restore: () => 0,
  };
  const onError = () => seen.push(contextNow());
  const keeper = context.run('maker', () => keepSnapshot(limiter, '/no/such/file', { onError }));
  for (let n = 0; n < 2; n += 1) {
    ring();
    await allMicrotasks();
  }
  expect(seen).toEqual([undefined, undefined, undefined, undefined]);
  await context.run('stopper', () => expect(keeper.stop()).rejects.toThrow('no snapshot today'));
  expect(seen.at(-1)).toBe('stopper');
});

test('a dashboard samples and listens outside of any context', async () => {
  const { monitorEventLoopDelay } = perfHooks;
  const seen: unknown[] = [];
  perfHooks.monitorEventLoopDelay = (options) => {
    seen.push(contextNow());
    return monitorEventLoopDelay(options);
  };
  syncBuiltinESMExports();
  vi.spyOn(Server.prototype, 'listen').mockImplementation(() => {
    seen.push(contextNow());
    throw new Error('no port today');
  });
  const limiter = new RateLimiter();
  vi.spyOn(limiter, 'getOverview').mockImplementation(() => {
    seen.push(contextNow());
    throw new Error('no figures today');
  });
  try {
    await context.run('maker', async () => {
      const dashboard = createDashboard({ limiters: { limiter } });
      await expect(dashboard.listen()).rejects.toThrow('no port today');
      expect(stores()).toEqual([undefined, undefined]);
      ring();
      expect(seen.length).toBeGreaterThanOrEqual(3);
      expect(new Set(seen)).toEqual(new Set([undefined]));
      dashboard.close();
    });
  } finally {
    perfHooks.monitorEventLoopDelay = monitorEventLoopDelay;
    syncBuiltinESMExports();
  }
});

test('a queue of the client waits outside of any context, and the deadline of a call in the caller’s context', async () => {
  const clock = manualClock();
  const policies = [{ quota: 1, windowSeconds: 10 }];
  const limiter = new PolicyLimiter({ policies, clock, algorithm: 'sliding' });
  limiter.tryAcquire();
  const lease = context.run('caller', () =>
    limiter.acquire({ deadlineSeconds: 100 }).then(contextNow),
  );
  expect(stores()).toEqual(['caller', undefined]);
  clock.now += 11;
  timers[1]?.ring();
  expect(await lease).toBe('caller');
});

test('deadlines of calls to a store share a timer, which is created outside of any context', () => {
  class Expiring extends Pending {
    override expire(): void {}
  }
  const deadlines = new Deadlines(1);
  context.run('caller', () => deadlines.add(new Expiring()));
  expect(stores()).toEqual([undefined]);
});

/** A client of node-redis that notes in which context it is called, and answers as a test says. */
function stubClient(answer: (call: string, args: string[]) => Promise<unknown>) {
  const seen: [call: string, store: string | undefined][] = [];
  const note = (call: string, args: string[] = []) => {
    seen.push([call, contextNow()]);
    return answer(call, args);
  };
  const client = {
    seen,
    evalSha: (_: string, options: { arguments: string[] }) => note('evalSha', options.arguments),
    eval: (_: string, options: { arguments: string[] }) => note('eval', options.arguments),
    connect: () => note('connect'),
    subscribe: () => note('subscribe'),
    destroy: () => {},
    duplicate: () => {
      void note('duplicate');
      return client;
    },
    on: () => client,
    off: () => client,
  };
  return client;
}

/** The reply to a heartbeat: the run, the time, the number of nodes, the epoch, and no loss. */
const ALIVE = ['run', '1000', '1', 'epoch', '', '0', '0'];

describe('a SharedRateLimiter', () => {
  test('sends heartbeats outside of any context, whichever context created it or had a failing call', async () => {
    let isThere = true;
    const client = stubClient((_, args) => {
      if (!isThere) return Promise.reject(new Error('gone'));
      return Promise.resolve(args.length === 1 ? ALIVE : []);
    });
    const limiter = context.run('maker', () => new SharedRateLimiter({ client, mode: 'strict' }));
    await allMicrotasks();
    // A look at the limit, and a heartbeat.
    expect(client.seen).toEqual(Array(2).fill(['eval', undefined]));
    expect(new Set(stores())).toEqual(new Set([undefined]));
    // From now on it knows the script.
    await limiter.checkAsync('peer');
    client.seen.length = 0;
    isThere = false;
    await context.run('caller', () => limiter.checkAsync('peer'));
    await allMicrotasks();
    const [call, ...beats] = client.seen;
    expect(call).toEqual(['evalSha', 'caller']);
    expect(beats.length).toBeGreaterThan(0);
    expect(new Set(beats.map(([, store]) => store))).toEqual(new Set([undefined]));
    expect(new Set(stores())).toEqual(new Set([undefined]));
    await limiter.close();
  });

  test('requests a second lease, for checks that came meanwhile, outside of any context', async () => {
    const leases: ((reply: unknown) => void)[] = [];
    const client = stubClient((_, args) => {
      if (args.length === 1) return Promise.resolve(ALIVE);
      return new Promise((resolve) => leases.push(resolve));
    });
    const limiter = new SharedRateLimiter({ client, burstLimit: 100 });
    // Of each peer the first check asks for no lease. After these it knows both scripts. A cost of 1 would not be sent.
    for (const [key, reply] of [
      ['another', 99],
      ['another', []],
      ['peer', 99],
    ] as const) {
      void limiter.checkAsync(key, 2);
      await allMicrotasks();
      leases.shift()?.(reply);
      await allMicrotasks();
    }
    client.seen.length = 0;
    const first = context.run('first', () => limiter.checkAsync('peer', 1).then(contextNow));
    const second = context.run('second', () => limiter.checkAsync('peer', 50).then(contextNow));
    await allMicrotasks();
    leases[0]?.(['1', 0, '90', 0, '30']);
    await allMicrotasks();
    leases[1]?.(['50', 1, '40', 0, '30']);
    expect(await Promise.all([first, second])).toEqual(['first', 'second']);
    expect(client.seen.map(([, store]) => store)).toEqual(['first', undefined]);
    const closed = limiter.close();
    await allMicrotasks();
    for (const reply of leases.slice(2)) reply(['0', 0, '0', 0, '0']);
    await closed;
  });
});

test('SharedBans subscribes, reads and sends outside of any context', async () => {
  const client = stubClient((call, args) => {
    if (!call.startsWith('eval')) return Promise.resolve();
    // Two arguments: a page of states. Otherwise the version, the time, the clock's correction, and who tells losses.
    return Promise.resolve(args.length === 2 ? [] : ['epoch', '1', '1000', '0', '0']);
  });
  const bans = context.run('maker', () => new SharedBans({ client }));
  await bans.ready();
  context.run('caller', () => bans.ban('peer', 60));
  await allMicrotasks();
  const calls = new Set(client.seen.map(([call]) => call));
  expect(calls).toEqual(new Set(['duplicate', 'connect', 'subscribe', 'eval', 'evalSha']));
  expect(new Set(client.seen.map(([, store]) => store))).toEqual(new Set([undefined]));
  expect(new Set(stores())).toEqual(new Set([undefined]));
  await bans.close();
});

test('a message that waits for another connection’s message passes in its own context', async () => {
  const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 1, clock: () => 1 });
  const { connect } = guardedVirtually({
    messages: { limiter, key: 'address' },
    onDelay: 'pause',
  });
  const delivered: [text: string, store: string | undefined][] = [];
  const [a, b] = [connect(), connect()];
  for (const socket of [a, b]) {
    socket.on('message', (data) => delivered.push([String(data), contextNow()]));
  }
  context.run('a', () => a.receive('first', 'second'));
  context.run('b', () => b.receive('third'));
  expect(delivered).toEqual([['first', 'a']]);
  limiter.clear();
  context.run('closer', () => a.terminate());
  await allMicrotasks();
  expect(delivered).toEqual([
    ['first', 'a'],
    ['third', 'b'],
  ]);
});
