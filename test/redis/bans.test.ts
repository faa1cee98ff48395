// Bans that all nodes know of: pushed, read by who was away, merged, lifted, kept while they last.

import { createClient } from 'redis';
import { DirectConnectionRateLimiter, OrderbookRateLimiter } from 'relay-limiter';
import { SharedBans, type SharedBansOptions } from 'relay-limiter/redis';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { StoreServer } from '../../out/examples/fleet/server.js';
import { codeOf, manualClock, ODD_KEYS } from '../support/limiters.js';
import { BadNetwork } from './support/bad-network.js';
import { CLIENTS, ioRedis, NO_SERVER, nodeRedis, startServer } from './support/store.js';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

describe.skipIf(NO_SERVER)('shared bans', () => {
  let server: StoreServer;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server.close());

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
    const made = new SharedBans({ client, prefix, ...options });
    closers.push(() => made.close());
    await expect.poll(() => made.getStats().state, { timeout: 5000 }).toBe('up');
    return made;
  }

  it.each(Object.entries(CLIENTS))(
    'reach the others within a second (%s)',
    async (name, connect) => {
      const a = await bans(`push-${name}`, { connect });
      const b = await bans(`push-${name}`, { connect });
      const heard: unknown[] = [];
      b.on('ban', ({ key, violations }) => heard.push([key, violations]));
      a.ban('p', 60, 7);
      expect(a.isBanned('p')).toBe(true);
      await expect.poll(() => b.isBanned('p'), { timeout: 1000 }).toBe(true);
      expect(heard).toEqual([['p', 7]]);
      expect(b.banSecondsLeft('p')).toBeGreaterThan(58);
      expect(b.banSecondsLeft('p')).toBeLessThanOrEqual(60.001);
      expect(b.isBanned('q')).toBe(false);
      b.lift('p');
      expect(b.isBanned('p')).toBe(false);
      await expect.poll(() => a.isBanned('p'), { timeout: 1000 }).toBe(false);
      expect(a.getStats()).toMatchObject({ bans: 0, waiting: 0, state: 'up' });
    },
  );

  it('are read by who comes later, every key as it is', async () => {
    const a = await bans('late');
    for (const key of ODD_KEYS) a.ban(key, 60);
    await expect.poll(() => a.getStats().waiting).toBe(0);
    const b = await bans('late', { connect: ioRedis });
    await expect.poll(() => ODD_KEYS.every((key) => b.isBanned(key))).toBe(true);
    expect(b.getStats().bans).toBe(ODD_KEYS.length);
  });

  it('are read in pages where there are many', async () => {
    const a = await bans('many');
    for (let i = 0; i < 1700; i += 1) a.ban(`peer-${i}`, 600);
    await expect.poll(() => a.getStats().waiting, { timeout: 5000 }).toBe(0);
    const b = await bans('many');
    await expect.poll(() => b.getStats().bans, { timeout: 5000 }).toBe(1700);
  });

  it('merge by the later end, whoever tells first', async () => {
    const a = await bans('merge');
    const b = await bans('merge');
    a.ban('p', 100);
    await expect.poll(() => b.isBanned('p')).toBe(true);
    b.ban('p', 50);
    a.ban('q', 10);
    await expect.poll(() => b.isBanned('q')).toBe(true);
    expect(a.banSecondsLeft('p')).toBeGreaterThan(90);
    expect(b.banSecondsLeft('p')).toBeGreaterThan(90);
    b.ban('p', 200);
    await expect.poll(() => a.banSecondsLeft('p')).toBeGreaterThan(190);
    const c = await bans('merge');
    await expect.poll(() => c.banSecondsLeft('p')).toBeGreaterThan(190);
  });

  it('end by themselves, here and in the store', async () => {
    const clock = manualClock();
    const a = await bans('end', { clock });
    const client = createClient({ url: server.url });
    await client.connect();
    closers.push(() => client.destroy());
    a.ban('p', 0.3);
    await expect.poll(() => client.exists('end:{bans}:p')).toBe(1);
    clock.now += 0.29;
    expect(a.isBanned('p')).toBe(true);
    clock.now += 0.02;
    expect(a.isBanned('p')).toBe(false);
    await expect.poll(() => client.exists('end:{bans}:p')).toBe(0);
    const b = await bans('end');
    expect(b.isBanned('p')).toBe(false);
  });

  it('found and lifted while one is away are known to it when it is back', async () => {
    const network = await BadNetwork.start(server.port);
    closers.push(() => network.close());
    const a = await bans('away');
    const b = await bans('away', { url: network.url });
    a.ban('p', 60);
    await expect.poll(() => b.isBanned('p')).toBe(true);
    network.isClosed = true;
    network.cut();
    a.ban('q', 60);
    a.lift('p');
    // Its own hold meanwhile, and are told later.
    b.ban('r', 60);
    expect(b.isBanned('r')).toBe(true);
    expect(b.isBanned('p')).toBe(true);
    network.isClosed = false;
    await expect.poll(() => b.isBanned('q'), { timeout: 8000 }).toBe(true);
    await expect.poll(() => b.isBanned('p'), { timeout: 8000 }).toBe(false);
    await expect.poll(() => a.isBanned('r'), { timeout: 8000 }).toBe(true);
  });

  it('survive a store that loses them: who knows them tells it again', async () => {
    const own = await startServer();
    closers.push(() => own.close());
    const a = await bans('lost', { url: own.url });
    a.ban('p', 60);
    await expect.poll(() => a.getStats().waiting).toBe(0);
    await own.kill();
    await own.start();
    await expect.poll(() => a.getStats().state, { timeout: 8000 }).toBe('up');
    expect(a.isBanned('p')).toBe(true);
    const b = await bans('lost', { url: own.url });
    await expect.poll(() => b.isBanned('p'), { timeout: 8000 }).toBe(true);
  });

  it('refuse bad input, and leave what is not theirs', async () => {
    const a = await bans('bad');
    expect(codeOf(() => a.ban(1 as never, 1))).toBe('ERR_LIMITER_KEY');
    expect(codeOf(() => a.ban('p', 0))).toBe('ERR_LIMITER_OPTION');
    expect(codeOf(() => a.ban('p', Infinity))).toBe('ERR_LIMITER_OPTION');
    expect(codeOf(() => a.share({} as never))).toBe('ERR_LIMITER_OPTION');
    expect(codeOf(() => new SharedBans({} as never))).toBe('ERR_LIMITER_OPTION');
    const client = createClient({ url: server.url });
    await client.connect();
    closers.push(() => client.destroy());
    // Anybody may publish anything.
    for (const message of ['', '{}', '[1]', 'null', '{"key":1,"version":2}']) {
      await client.publish('bad:{bans}', message);
    }
    a.ban('p', 60);
    expect(a.isBanned('p')).toBe(true);
    await expect.poll(() => a.getStats()).toMatchObject({ state: 'up', waiting: 0, received: 0 });
  });

  describe('of limiters', () => {
    it('are told by who finds them, with their levels of violations', async () => {
      const a = await bans('limiters');
      const b = await bans('limiters');
      const heard: [string, number, number][] = [];
      b.on('ban', ({ key, seconds, violations }) =>
        heard.push([key, Math.round(seconds), violations]),
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
      const c = await bans('limiters');
      c.share(direct);
      for (let i = 0; i < 5; i += 1) direct.checkOrderbook('taker');
      await expect
        .poll(() => b.isBanned('maker') && b.isBanned('taker'), { timeout: 1000 })
        .toBe(true);
      expect(heard.filter(([key]) => key === 'maker').at(-1)).toEqual(['maker', 100, 6]);
      expect(heard.filter(([key]) => key === 'taker').at(-1)).toEqual(['taker', 50, 4]);
    });

    it('are taken over by the limiters of the others, and lifted there', async () => {
      const a = await bans('over');
      const b = await bans('over');
      const options = { violationWarningThreshold: 2, banDuration: 100 };
      const here = new OrderbookRateLimiter(options);
      const there = new OrderbookRateLimiter(options);
      a.share(here);
      b.share(there);
      for (let i = 0; i < 3; i += 1) here.check('p');
      await expect.poll(() => there.getBackoffLevel('p'), { timeout: 1000 }).toBe('MODERATE');
      a.ban('q', 60, 3);
      await expect.poll(() => there.isBanned('q'), { timeout: 1000 }).toBe(true);
      const later = new OrderbookRateLimiter(options);
      b.share(later);
      expect(later.isBanned('q')).toBe(true);
      b.lift('q');
      expect(there.isBanned('q')).toBe(false);
      await expect.poll(() => here.isBanned('q'), { timeout: 1000 }).toBe(false);
    });
  });
});
