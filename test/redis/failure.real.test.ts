// Real stores with failures: unreachable, without the scripts, not running, full, locked, or with foreign keys.

import { Redis } from 'ioredis';
import { createClient } from 'redis';
import { SharedBans, SharedRateLimiter, type SharedRateLimiterOptions } from 'relay-limiter/redis';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { excess } from '../../out/examples/fleet/bound.js';
import type { StoreServer } from '../../out/examples/fleet/server.js';
import { BadNetwork } from '../../out/soak/fleet/bad-network.js';
import { Flood } from './support/flood.js';
import { NO_DEADLINE, NO_SERVER, nodeRedis, startServer } from './support/store.js';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function limiter(options: SharedRateLimiterOptions): SharedRateLimiter {
  const made = new SharedRateLimiter(options);
  closers.push(() => made.close());
  return made;
}

async function clientOf(url: string): Promise<object> {
  const { client, close } = await nodeRedis(url);
  closers.push(close);
  return client;
}

type Commander = { sendCommand(args: string[]): Promise<unknown> };

describe.skipIf(NO_SERVER)('SharedRateLimiter', () => {
  let server: StoreServer;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server.close());

  it('keeps the bound if one node cannot reach the store, and the other node goes on', async () => {
    const proxy = await BadNetwork.start(server.port);
    closers.push(() => proxy.close());
    const limit = { rateLimit: 50, burstLimit: 20 };
    const policy = { onStoreFailure: 'closed' as const, deadlineSeconds: 0.5 };
    const options = { ...limit, ...policy, prefix: 'reach' };
    const far = limiter({ client: await clientOf(proxy.url), ...options });
    const near = limiter({ client: await clientOf(server.url), ...options });
    const flood = new Flood([far, near]);
    for (const trouble of ['cut', 'slow', 'silent']) {
      await flood.untilAdmitted([far]);
      if (trouble === 'cut') proxy.isClosed = true;
      if (trouble === 'cut') proxy.cut();
      if (trouble === 'slow') proxy.latency = 1;
      if (trouble === 'silent') proxy.dropsData = true;
      await expect.poll(() => far.getStats().store.state).toBe('down');
      await flood.untilAdmitted([near]);
      Object.assign(proxy, { isClosed: false, latency: 0, dropsData: false });
      if (trouble === 'silent') proxy.cut();
    }
    await flood.untilAdmitted([far, near]);
    await flood.stop();
    const over = excess(flood.admissions, limit.rateLimit, limit.burstLimit);
    expect(over).toBeLessThanOrEqual(1e-6);
  });

  it('loads its scripts again after SCRIPT FLUSH, without a failure or a wrong verdict', async () => {
    const client = (await clientOf(server.url)) as ReturnType<typeof createClient>;
    const shared = limiter({
      client,
      prefix: 'flush',
      rateLimit: 0.001,
      burstLimit: 30,
      mode: 'strict',
      ...NO_DEADLINE,
    });
    let allowed = 0;
    for (let i = 0; i < 40; i += 1) {
      if (i % 10 === 5) await client.scriptFlush();
      if ((await shared.checkAsync('p'))[0] === 'allow') allowed += 1;
    }
    expect(allowed).toBe(30);
    expect(shared.getStats()).toMatchObject({ fallbackVerdicts: 0, store: { failures: 0 } });
  });

  it('follows the failure policy without a server, and ready() rejects with the reason', async () => {
    const client = createClient({
      // No server listens on this port.
      url: 'redis://127.0.0.1:1',
      socket: { reconnectStrategy: 50 },
      disableOfflineQueue: true,
    });
    client.connect().catch(() => {});
    closers.push(() => client.destroy());
    const shared = limiter({ client, onStoreFailure: 'open', prefix: 'gone' });
    await expect(shared.ready()).rejects.toMatchObject({ code: 'ERR_LIMITER_STORE' });
    expect(await shared.checkAsync('p')).toEqual(['allow', 0]);
    expect(shared.check('p')).toEqual(['allow', 0]);
    const closed = limiter({ client, onStoreFailure: 'closed', prefix: 'gone' });
    expect((await closed.checkAsync('p'))[0]).toBe('delay');
    await expect(shared.getViolationCount('p')).rejects.toMatchObject({
      code: 'ERR_LIMITER_STORE',
    });
    // Calls are made one at a time, so that none pile up in the client.
    expect(shared.getStats().store.inFlight).toBeLessThanOrEqual(1);
  });

  it.each(['node-redis', 'ioredis'])(
    'rejects ready() with the reason although the client keeps calls until it is connected (%s)',
    async (which) => {
      let client: object;
      if (which === 'ioredis') {
        const io = new Redis(1, '127.0.0.1', {
          retryStrategy: () => 50,
          maxRetriesPerRequest: null,
        });
        closers.push(() => io.disconnect());
        client = io;
      } else {
        const own = createClient({ url: 'redis://127.0.0.1:1', socket: { reconnectStrategy: 50 } });
        own.connect().catch(() => {});
        closers.push(() => own.destroy());
        client = own;
      }
      const shared = limiter({ client, prefix: 'reason' });
      const bans = new SharedBans({ client, prefix: 'reason' });
      closers.push(() => bans.close());
      for (const ready of [shared.ready(), bans.ready()]) {
        await expect(ready).rejects.toMatchObject({
          code: 'ERR_LIMITER_STORE',
          message: expect.stringContaining('ECONNREFUSED'),
        });
      }
    },
  );

  it.each<[string, string[], RegExp, (client: Commander) => Promise<unknown>]>([
    ['requires a password', ['--requirepass', 'secret'], /NOAUTH/, async () => {}],
    [
      'has no memory left',
      ['--maxmemory', '1', '--maxmemory-policy', 'noeviction'],
      /OOM/,
      async () => {},
    ],
    [
      'refuses writes',
      [],
      /READONLY/,
      async (client) => client.sendCommand(['REPLICAOF', '127.0.0.1', '1']),
    ],
  ])(
    'follows the failure policy if the store %s, and ready() rejects with the reason',
    async (_, flags, reason, prepare) => {
      const own = await startServer(flags);
      closers.push(() => own.close());
      // Without these options node-redis sends commands on connecting, which a server with a password refuses.
      const client = createClient({ url: own.url, RESP: 2, disableClientInfo: true });
      client.on('error', () => {});
      await client.connect();
      closers.push(() => client.destroy());
      await prepare(client);
      const shared = limiter({ client, onStoreFailure: 'open', mode: 'strict', ...NO_DEADLINE });
      // ready() waits two seconds for a reply, which may take longer on a busy machine.
      let message: unknown;
      do message = await shared.ready().catch((error) => (error as Error).message);
      while (message === 'store error: no reply within the deadline');
      expect(message).toMatch(reason);
      expect(await shared.checkAsync('p')).toEqual(['allow', 0]);
      expect(shared.getStats()).toMatchObject({ fallbackVerdicts: 1, store: { state: 'down' } });
    },
  );

  it.each(['strict', 'leased'] as const)(
    'reports a peer with a foreign key, leaves the key unchanged, and serves other peers (%s)',
    async (mode) => {
      const client = (await clientOf(server.url)) as ReturnType<typeof createClient>;
      const prefix = `foreign-${mode}`;
      const shared = limiter({
        client,
        prefix,
        mode,
        burstLimit: 5,
        rateLimit: 0.001,
        ...NO_DEADLINE,
      });
      await shared.checkAsync('p');
      const [key] = await client.keys(`${prefix}{*}p`);
      await client.del(key as string);
      await client.lPush(key as string, 'foreign');
      shared.removePeer('p');
      const failures: string[] = [];
      shared.on('failure', (failure) => failures.push(`${failure.key}: ${failure.error.message}`));
      expect((await shared.checkAsync('p', 1))[0]).toBe('delay');
      expect(failures[0]).toMatch(/^p: .*WRONGTYPE/);
      expect(await client.lRange(key as string, 0, -1)).toEqual(['foreign']);
      expect(await shared.checkAsync('q')).toEqual(['allow', 0]);
      expect(shared.getStats().store.state).toBe('up');
    },
  );

  it('rejects in ready() if the key of nodes is foreign, and leaves it unchanged', async () => {
    const client = (await clientOf(server.url)) as ReturnType<typeof createClient>;
    await client.zAdd('foreign-nodes{0}#nodes', { score: 1, value: 'foreign' });
    const shared = limiter({ client, prefix: 'foreign-nodes', ...NO_DEADLINE });
    await expect(shared.ready()).rejects.toThrow('WRONGTYPE');
    expect(await client.zRange('foreign-nodes{0}#nodes', 0, -1)).toEqual(['foreign']);
    expect(await client.ttl('foreign-nodes{0}#nodes')).toBe(-1);
  });
});
