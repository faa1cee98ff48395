// SharedBans on real servers: how bans are published, read after an interruption, merged, lifted and kept.

import { Redis } from 'ioredis';
import { createClient } from 'redis';
import { DirectConnectionRateLimiter, OrderbookRateLimiter } from 'relay-limiter';
import { SharedBans, type SharedBansOptions } from 'relay-limiter/redis';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { StoreServer } from '../../out/examples/fleet/server.js';
import { codeOf, manualClock, ODD_KEYS } from '../support/limiters.js';
import { uncaught } from '../support/uncaught.js';
import { BadNetwork } from './support/bad-network.js';
import {
  CLIENTS,
  ioRedis,
  NO_DEADLINE,
  NO_SERVER,
  nodeRedis,
  startServer,
} from './support/store.js';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const STORE = 'ERR_LIMITER_STORE';

type NodeRedis = ReturnType<typeof createClient>;
type Answer = (text: string, run: () => Promise<unknown>) => Promise<unknown>;

function code(error: unknown): unknown {
  return (error as { code?: unknown } | undefined)?.code;
}

/** A client for which `answer` decides when and how a script runs. */
function withAnswer(client: object, answer: Answer): object {
  return new Proxy(client as NodeRedis, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (name === 'eval') {
        return (...args: Parameters<NodeRedis['eval']>) =>
          answer(String(args[0]), async () => target.eval(...args));
      }
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

describe.skipIf(NO_SERVER)('SharedBans', () => {
  let server: StoreServer;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server.close());

  async function admin(): Promise<NodeRedis> {
    const client = createClient({ url: server.url });
    await client.connect();
    closers.push(() => client.destroy());
    return client as NodeRedis;
  }

  async function bans(
    prefix: string,
    {
      url = server.url,
      connect = nodeRedis,
      ...options
    }: Partial<SharedBansOptions> & {
      url?: string;
      connect?: (typeof CLIENTS)['ioredis'];
    } = {},
  ): Promise<SharedBans> {
    const { client, close } = await connect(url);
    closers.push(close);
    const made = new SharedBans({ client, prefix, ...NO_DEADLINE, ...options });
    closers.push(() => made.close());
    await expect.poll(() => made.getStats().state).toBe('up');
    return made;
  }

  it.each(Object.entries(CLIENTS))(
    'publishes bans and lifts to other processes (%s)',
    async (name, connect) => {
      const a = await bans(`push-${name}`, { connect });
      const b = await bans(`push-${name}`, { connect });
      const received: unknown[] = [];
      b.on('ban', ({ key, violations }) => received.push([key, violations]));
      a.ban('p', 600, 7);
      expect(a.isBanned('p')).toBe(true);
      await expect.poll(() => b.isBanned('p')).toBe(true);
      expect(received).toEqual([['p', 7]]);
      // The ban was published, not only found by the next read.
      await expect.poll(() => b.getStats().received).toBe(1);
      // 600 s, minus the time that the test has taken.
      expect(b.banSecondsLeft('p')).toBeGreaterThan(400);
      expect(b.banSecondsLeft('p')).toBeLessThanOrEqual(600.001);
      expect(b.isBanned('q')).toBe(false);
      b.lift('p');
      expect(b.isBanned('p')).toBe(false);
      await expect.poll(() => a.isBanned('p')).toBe(false);
      expect(a.getStats()).toMatchObject({ bans: 0, waiting: 0, state: 'up' });
    },
  );

  it('reads all bans when it starts, with every key unchanged', async () => {
    const a = await bans('late');
    for (const key of ODD_KEYS) a.ban(key, 600);
    await expect.poll(() => a.getStats().waiting).toBe(0);
    const b = await bans('late', { connect: ioRedis });
    await expect.poll(() => ODD_KEYS.every((key) => b.isBanned(key))).toBe(true);
    expect(b.getStats().bans).toBe(ODD_KEYS.length);
  });

  it('applies all bans although a listener throws', async () => {
    const a = await bans('thrown');
    for (const key of ['p', 'q', 'r']) a.ban(key, 600);
    await expect.poll(() => a.getStats().waiting).toBe(0);
    const { client, close } = await nodeRedis(server.url);
    const b = new SharedBans({ client, prefix: 'thrown', ...NO_DEADLINE });
    closers.push(close, () => b.close());
    b.on('ban', ({ key }) => {
      throw new Error(key);
    });
    const surfaced = await uncaught(async () => {
      await expect.poll(() => b.getStats().bans).toBe(3);
    });
    expect(surfaced.map(({ message }) => message).sort()).toEqual(['p', 'q', 'r']);
    expect(b.getStats().state).toBe('up');
  });

  it('reads many bans in pages', async () => {
    const a = await bans('many');
    for (let i = 0; i < 1700; i += 1) a.ban(`peer-${i}`, 600);
    await expect.poll(() => a.getStats().waiting).toBe(0);
    const b = await bans('many');
    await expect.poll(() => b.getStats().bans).toBe(1700);
  });

  it('keeps the later end of two bans, in whatever order they are found', async () => {
    const a = await bans('merge');
    const b = await bans('merge');
    a.ban('p', 1000);
    await expect.poll(() => b.isBanned('p')).toBe(true);
    b.ban('p', 500);
    a.ban('q', 100);
    await expect.poll(() => b.isBanned('q')).toBe(true);
    expect(a.banSecondsLeft('p')).toBeGreaterThan(800);
    expect(b.banSecondsLeft('p')).toBeGreaterThan(800);
    b.ban('p', 2000);
    await expect.poll(() => a.banSecondsLeft('p')).toBeGreaterThan(1800);
    const c = await bans('merge');
    await expect.poll(() => c.banSecondsLeft('p')).toBeGreaterThan(1800);
  });

  it('ends a ban after its time, in the process and in the store', async () => {
    const clock = manualClock();
    const a = await bans('end', { clock });
    const client = await admin();
    a.ban('p', 600);
    await expect.poll(() => client.exists('end:{bans}:p')).toBe(1);
    expect(await client.pTTL('end:{bans}:p')).toBeGreaterThan(400_000);
    expect(await client.pTTL('end:{bans}:p')).toBeLessThanOrEqual(600_000);
    clock.now += 599.9;
    expect(a.isBanned('p')).toBe(true);
    clock.now += 0.2;
    expect(a.isBanned('p')).toBe(false);
    // The ban expires in the store while the index still lists it.
    await client.pExpire('end:{bans}:p', 1);
    await expect.poll(() => client.exists('end:{bans}:p')).toBe(0);
    const b = await bans('end');
    expect(b.isBanned('p')).toBe(false);
  });

  it('reads bans and lifts that it missed without a connection', async () => {
    const network = await BadNetwork.start(server.port);
    closers.push(() => network.close());
    const a = await bans('away');
    const b = await bans('away', { url: network.url });
    a.ban('p', 600);
    await expect.poll(() => b.isBanned('p')).toBe(true);
    network.isClosed = true;
    network.cut();
    a.ban('q', 600);
    a.lift('p');
    // Its own bans hold in the meantime and are sent later.
    b.ban('r', 600);
    expect(b.isBanned('r')).toBe(true);
    expect(b.isBanned('p')).toBe(true);
    network.isClosed = false;
    await expect.poll(() => b.isBanned('q')).toBe(true);
    await expect.poll(() => b.isBanned('p')).toBe(false);
    await expect.poll(() => a.isBanned('r')).toBe(true);
  });

  it('sends bans again to a store that has lost them', async () => {
    const own = await startServer();
    closers.push(() => own.close());
    const a = await bans('lost', { url: own.url });
    a.ban('p', 600);
    await expect.poll(() => a.getStats().waiting).toBe(0);
    await own.kill();
    await own.start();
    await expect.poll(() => a.getStats().state).toBe('up');
    expect(a.isBanned('p')).toBe(true);
    const b = await bans('lost', { url: own.url });
    await expect.poll(() => b.isBanned('p')).toBe(true);
  });

  it('refuses invalid arguments and ignores invalid messages', async () => {
    const a = await bans('bad');
    expect(codeOf(() => a.ban(1 as never, 1))).toBe('ERR_LIMITER_KEY');
    expect(codeOf(() => a.ban('p', 0))).toBe('ERR_LIMITER_OPTION');
    expect(codeOf(() => a.ban('p', Infinity))).toBe('ERR_LIMITER_OPTION');
    expect(codeOf(() => a.ban('p', 1, 0.5))).toBe('ERR_LIMITER_OPTION');
    for (const wrong of [{ maxPeers: 0 }, { deadlineSeconds: 0 }]) {
      expect(codeOf(() => new SharedBans({ client: {}, ...wrong }))).toBe('ERR_LIMITER_OPTION');
    }
    expect(codeOf(() => a.share({} as never))).toBe('ERR_LIMITER_OPTION');
    expect(codeOf(() => new SharedBans({} as never))).toBe('ERR_LIMITER_OPTION');
    const client = await admin();
    // Anybody can publish anything.
    const whole = { epoch: '', version: 0, key: 'q', from: '', seconds: 60, violations: 1 };
    const wrong = [
      ...[{ key: 1 }, { key: 'x'.repeat(200) }, { seconds: '60' }, { seconds: -1 }],
      ...[{ violations: 0.5 }, { violations: -1 }, { version: null }],
    ].map((field) => JSON.stringify({ ...whole, ...field }));
    for (const message of ['', '{}', '[1]', 'null', ...wrong]) {
      await client.publish('bad:{bans}', message);
    }
    a.ban('p', 600);
    expect(a.isBanned('p')).toBe(true);
    // A valid message after all of those is received.
    const b = await bans('bad');
    b.ban('r', 600);
    await expect.poll(() => a.isBanned('r')).toBe(true);
    await expect.poll(() => a.getStats()).toMatchObject({ state: 'up', waiting: 0, received: 1 });
  });

  it('reports a foreign key, leaves it unchanged, and goes on with other peers', async () => {
    const a = await bans('foreign');
    const b = await bans('foreign');
    const failures: [string, unknown][] = [];
    a.on('failure', ({ key, error }) => failures.push([key, code(error)]));
    const client = await admin();
    await client.lPush('foreign:{bans}:list', 'foreign');
    await client.set('foreign:{bans}:text', 'foreign');
    a.ban('list', 600);
    a.ban('text', 600);
    // Longer than the largest number of milliseconds that the store accepts.
    for (const [at, seconds] of [1e15, Number.MAX_VALUE].entries()) a.ban(`long-${at}`, seconds);
    a.ban('p', 600);
    const others = ['p', 'long-0', 'long-1'];
    await expect.poll(() => others.every((key) => b.isBanned(key))).toBe(true);
    a.lift('list');
    a.lift('text');
    await expect.poll(() => failures.length).toBe(4);
    expect(failures.map(([key]) => key).sort()).toEqual(['list', 'list', 'text', 'text']);
    expect(new Set(failures.map(([, code]) => code))).toEqual(new Set([STORE]));
    expect(await client.lRange('foreign:{bans}:list', 0, -1)).toEqual(['foreign']);
    expect(await client.get('foreign:{bans}:text')).toBe('foreign');
    expect(a.getStats()).toMatchObject({ state: 'up', waiting: 0 });
    expect(b.isBanned('list')).toBe(false);
    // A process that starts later reads the other bans.
    const c = await bans('foreign');
    expect(others.every((key) => c.isBanned(key))).toBe(true);
  });

  it('refuses a foreign index or version, and leaves it unchanged', async () => {
    const client = await admin();
    await client.zAdd('index:{bans}', { score: 1, value: 'foreign' });
    await client.hSet('version:{bans}#version', 'version', '7');
    for (const prefix of ['index', 'version']) {
      const made = new SharedBans({ client, prefix, ...NO_DEADLINE });
      closers.push(() => made.close());
      const states: unknown[] = [];
      made.on('state', ({ state, reason }) => states.push([state, reason?.message]));
      made.ban('p', 600);
      await expect(made.ready()).rejects.toThrow('not its own');
      made.lift('q');
      // The next attempt fails as well.
      await expect(made.ready()).rejects.toThrow('not its own');
      expect(states).toEqual([['down', expect.stringContaining('not its own')]]);
      expect(made.isBanned('p')).toBe(true);
      expect(await client.exists(`${prefix}:{bans}:p`)).toBe(0);
    }
    expect(await client.zRangeWithScores('index:{bans}', 0, -1)).toEqual([
      { score: 1, value: 'foreign' },
    ]);
    expect(await client.hGetAll('version:{bans}#version')).toEqual({ version: '7' });
  });

  it('keeps changes that are made while it reads all bans again', async () => {
    const { client, close } = await nodeRedis(server.url);
    closers.push(close);
    let isReading = false;
    let isRead = false;
    let go = () => {};
    const released = new Promise<void>((resolve) => {
      go = resolve;
    });
    const slow = withAnswer(client, async (text, run) => {
      const reply = await run();
      if (!text.includes('MGET') || !isReading) return reply;
      isRead = true;
      await released;
      return reply;
    });
    const a = new SharedBans({ client: slow, prefix: 'reread', ...NO_DEADLINE });
    closers.push(() => a.close());
    await expect.poll(() => a.getStats().state).toBe('up');
    const b = await bans('reread');
    b.ban('y', 600);
    b.ban('z', 600);
    await expect.poll(() => a.isBanned('y') && a.isBanned('z')).toBe(true);
    const store = await admin();
    isReading = true;
    // A change without a message.
    await store.hIncrBy('reread:{bans}#version', 'version', 1);
    b.ban('x', 600);
    await expect.poll(() => isRead && a.isBanned('x')).toBe(true);
    const lifts: string[] = [];
    a.on('lift', ({ key }) => lifts.push(key));
    a.ban('p', 600);
    a.lift('y');
    b.ban('q', 600);
    b.lift('z');
    await expect.poll(() => a.isBanned('q') && !a.isBanned('z')).toBe(true);
    isReading = false;
    go();
    await expect.poll(() => a.getStats().waiting).toBe(0);
    await expect.poll(() => b.isBanned('p') && !b.isBanned('y')).toBe(true);
    const known = (one: SharedBans) => ['p', 'q', 'x', 'y', 'z'].map((key) => one.isBanned(key));
    expect(known(a)).toEqual([true, true, true, false, false]);
    expect(known(b)).toEqual([true, true, true, false, false]);
    expect(lifts).toEqual(['z']);
    expect(await store.exists('reread:{bans}:p')).toBe(1);
  });

  it('follows the order of the store if a ban and a lift race', async () => {
    const { client, close } = await nodeRedis(server.url);
    closers.push(close);
    let isHeld = true;
    let go = () => {};
    const released = new Promise<void>((resolve) => {
      go = resolve;
    });
    const late = withAnswer(client, async (text, run) => {
      if (text.includes('violations') && isHeld) await released;
      return run();
    });
    const a = await bans('race');
    const b = new SharedBans({ client: late, prefix: 'race', ...NO_DEADLINE });
    closers.push(() => b.close());
    isHeld = false;
    await expect.poll(() => b.getStats().state).toBe('up');
    isHeld = true;
    const limiter = new OrderbookRateLimiter();
    b.share(limiter);
    const received: string[] = [];
    b.on('lift', ({ key }) => received.push(key));
    b.on('ban', ({ key }) => received.push(key));
    // The process that bans receives the lift after its ban, but the store gets the ban last.
    b.ban('p', 600);
    a.lift('p');
    await expect.poll(() => received).toEqual(['p']);
    go();
    await expect.poll(() => a.isBanned('p') && b.isBanned('p')).toBe(true);
    expect(limiter.isBanned('p')).toBe(true);
    // A process gets no events for its own changes.
    expect(received).toEqual(['p']);
  });

  it('reports an unreachable store, and ends its own connection on close()', async () => {
    const node = createClient({
      // No server listens on this port.
      url: 'redis://127.0.0.1:1',
      socket: { reconnectStrategy: 50 },
    });
    node.on('error', () => {});
    node.connect().catch(() => {});
    const io = new Redis(1, '127.0.0.1', {
      retryStrategy: () => 50,
      maxRetriesPerRequest: null,
    });
    io.on('error', () => {});
    for (const client of [node, io]) {
      const duplicates: (typeof io)[] = [];
      let attempts = 0;
      const duplicate = client.duplicate.bind(client) as () => typeof io;
      Object.assign(client, {
        duplicate: () => {
          const made = duplicate().on('reconnecting', () => {
            attempts += 1;
          });
          duplicates.push(made);
          return made;
        },
      });
      const made = new SharedBans({ client });
      const states: unknown[] = [];
      made.on('state', ({ state, reason }) => states.push([state, code(reason)]));
      await expect.poll(() => states).toEqual([['down', STORE]]);
      if (client === io) expect(code(await made.ready().catch((error) => error))).toBe(STORE);
      made.ban('p', 600);
      expect(made.isBanned('p')).toBe(true);
      await expect.poll(() => attempts).toBeGreaterThan(1);
      const never = made.ready().catch((error) => error.message);
      await made.close();
      await made.close();
      expect(await never).toContain('SharedBans is closed');
      // The user's client goes on reconnecting, at the same rate.
      attempts = 0;
      let later = 0;
      (client as typeof io).on('reconnecting', () => {
        later += 1;
      });
      await expect.poll(() => later).toBeGreaterThan(2);
      expect(attempts).toBe(0);
      expect(duplicates).toHaveLength(1);
    }
    node.destroy();
    io.disconnect();
  });

  it('rejects at once in ready() if a password is required', async () => {
    const own = await startServer(['--requirepass', 'secret']);
    closers.push(() => own.close());
    const io = new Redis(own.port, '127.0.0.1', { enableReadyCheck: false });
    io.on('error', () => {});
    closers.push(() => io.disconnect());
    const made = new SharedBans({ client: io, ...NO_DEADLINE });
    closers.push(() => made.close());
    await expect(made.ready()).rejects.toThrow('NOAUTH');
  });

  it('keeps only a digest of a long name', async () => {
    const a = await bans('long');
    const b = await bans('long');
    const [name, other] = ['x'.repeat(100_000), `${'x'.repeat(99_999)}y`];
    a.ban(name, 600);
    expect(a.isBanned(name)).toBe(true);
    await expect.poll(() => b.isBanned(name)).toBe(true);
    expect(b.isBanned(other)).toBe(false);
    const store = await admin();
    const names = await store.zRange('long:{bans}', 0, -1);
    expect(Math.max(...names.map(({ length }) => length))).toBeLessThan(200);
    const c = await bans('long');
    expect(c.isBanned(name)).toBe(true);
    c.lift(name);
    expect(c.isBanned(name)).toBe(false);
    await expect.poll(() => a.isBanned(name) || b.isBanned(name)).toBe(false);
  });

  it('keeps at most maxPeers bans', async () => {
    const a = await bans('cap', { maxPeers: 10 });
    for (let i = 0; i < 100; i += 1) a.ban(`p${i}`, 600 + i);
    expect(a.getStats().bans).toBe(10);
    expect(a.isBanned('p99')).toBe(true);
  });

  describe('with limiters', () => {
    it('makes them refuse banned peers and apply levels of violations, until a lift', async () => {
      const a = await bans('refuse');
      const b = await bans('refuse');
      const clock = manualClock();
      const orderbook = new OrderbookRateLimiter({
        ...{ interval: 1, violationWarningThreshold: 2, violationBanThreshold: 6, clock },
      });
      const direct = new DirectConnectionRateLimiter({ clock });
      b.share(orderbook);
      b.share(direct);
      const received: [string, number][] = [];
      a.on('ban', ({ key, violations }) => received.push([key, violations]));
      a.ban('p', 600);
      await expect.poll(() => orderbook.isBanned('p')).toBe(true);
      expect(direct.isBanned('p')).toBe(true);
      expect(orderbook.check('p') || orderbook.open('p').check()).toBe(false);
      expect(direct.checkMessage('p') || direct.checkOrderbook('p')).toBe(false);
      const here = new OrderbookRateLimiter({ violationWarningThreshold: 2 });
      a.share(here);
      for (let i = 0; i < 3; i += 1) here.check('q');
      await expect.poll(() => orderbook.getViolationCount('q')).toBe(2);
      // The backoff is six times the interval.
      expect(orderbook.check('q')).toBe(true);
      clock.now += 5.9;
      expect(orderbook.check('q')).toBe(false);
      clock.now += 0.2;
      expect(orderbook.check('q')).toBe(true);
      // The checks above raised p to a level that b sends. If b sent it after the lift, it would be a new ban.
      await expect.poll(() => received).toEqual([['p', 2]]);
      expect(b.getStats().waiting).toBe(0);
      a.lift('p');
      await expect.poll(() => orderbook.isBanned('p')).toBe(false);
      expect(orderbook.check('p')).toBe(true);
      expect(direct.checkMessage('p') && direct.checkOrderbook('p')).toBe(true);
    });

    it('sends the bans and levels of violations that they find', async () => {
      const clock = manualClock();
      const a = await bans('limiters', { clock });
      const b = await bans('limiters');
      const received: [string, number, number][] = [];
      b.on('ban', ({ key, seconds, violations }) =>
        received.push([key, Math.round(seconds), violations]),
      );
      const orderbook = new OrderbookRateLimiter({
        ...{ violationWarningThreshold: 2, violationSevereThreshold: 4, violationBanThreshold: 6 },
        banDuration: 100,
      });
      a.share(orderbook);
      expect(codeOf(() => a.share(orderbook))).toBe('ERR_LIMITER_OPTION');
      const peer = orderbook.open('maker');
      for (let i = 0; i < 8; i += 1) peer.check();
      expect(orderbook.isBanned('maker')).toBe(true);
      expect(a.isBanned('maker')).toBe(true);
      const direct = new DirectConnectionRateLimiter({ orderbookBanThreshold: 4, banDuration: 50 });
      const c = await bans('limiters', { clock });
      c.share(direct);
      for (let i = 0; i < 5; i += 1) direct.checkOrderbook('taker');
      await expect.poll(() => b.isBanned('maker') && b.isBanned('taker')).toBe(true);
      expect(received.filter(([key]) => key === 'maker').at(-1)).toEqual(['maker', 100, 6]);
      expect(received.filter(([key]) => key === 'taker').at(-1)).toEqual(['taker', 50, 4]);
    });

    it('makes limiters of other processes take over and lift bans', async () => {
      const a = await bans('over');
      const b = await bans('over');
      const options = { violationWarningThreshold: 2, banDuration: 100 };
      const here = new OrderbookRateLimiter(options);
      const there = new OrderbookRateLimiter(options);
      a.share(here);
      b.share(there);
      for (let i = 0; i < 3; i += 1) here.check('p');
      await expect.poll(() => there.getBackoffLevel('p')).toBe('MODERATE');
      a.ban('q', 600, 3);
      await expect.poll(() => there.isBanned('q')).toBe(true);
      const later = new OrderbookRateLimiter(options);
      b.share(later);
      expect(later.isBanned('q')).toBe(true);
      b.lift('q');
      expect(there.isBanned('q')).toBe(false);
      await expect.poll(() => here.isBanned('q')).toBe(false);
    });
  });
});
