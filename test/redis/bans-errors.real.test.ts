// SharedBans on real servers: invalid arguments and messages, foreign keys, and stores that cannot be used.

import { Redis } from 'ioredis';
import { createClient } from 'redis';
import { SharedBans } from 'relay-limiter/redis';
import { describe, expect, it } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { admin, bans, closeAfterTest, code, STORE, withServer } from './support/bans.js';
import { NO_DEADLINE, NO_SERVER, startServer } from './support/store.js';

describe.skipIf(NO_SERVER)('SharedBans', () => {
  withServer();

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
    const soon = Date.now() / 1000 + 60;
    const ban = `0 1 1:${soon}`;
    const peers = [
      ...[['q'], 'q', ['q', 7], [1, ban], ['x'.repeat(200), ban], ['q', '0 1 1'], ['q', '0 0.5']],
      ...[`0 -1 1:${soon}`, `x 1 1:${soon}`, `0 1 1:${soon}:2`, '0 1 1:Infinity', '0 1 :', ''].map(
        (value) => ['q', value],
      ),
      ['q', `0 1${` 1:${soon}`.repeat(9)}`],
    ];
    const messages = [
      { epoch: '', version: 0, from: '', peers },
      { version: null, peers: [] },
    ].map((message) => JSON.stringify(message));
    for (const message of ['', '{}', '[1]', 'null', ...messages]) {
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

  it('keeps bans that are longer than the store can count', async () => {
    const a = await bans('endless');
    const b = await bans('endless');
    const seconds = [1e15, Number.MAX_VALUE];
    for (const [at, long] of seconds.entries()) a.ban(`long-${at}`, long);
    await expect.poll(() => b.isBanned('long-0') && b.isBanned('long-1')).toBe(true);
    const c = await bans('endless');
    expect(c.isBanned('long-0') && c.isBanned('long-1')).toBe(true);
    c.lift('long-0');
    await expect.poll(() => a.isBanned('long-0') || b.isBanned('long-0')).toBe(false);
    expect(a.getStats()).toMatchObject({ state: 'up', waiting: 0 });
  });

  it('refuses a foreign key, and leaves it unchanged', async () => {
    const client = await admin();
    await client.zAdd('index:{bans}', { score: 1, value: 'foreign' });
    await client.hSet('peers:{bans}#peers', 'version', '7');
    for (const prefix of ['index', 'peers']) {
      const made = new SharedBans({ client, prefix, ...NO_DEADLINE });
      closeAfterTest(() => made.close());
      const states: unknown[] = [];
      made.on('state', ({ state, reason }) => states.push([state, reason?.message]));
      made.ban('p', 600);
      await expect(made.ready()).rejects.toThrow('not its own');
      made.lift('q');
      // The next attempt fails as well.
      await expect(made.ready()).rejects.toThrow('not its own');
      expect(states).toEqual([['down', expect.stringContaining('not its own')]]);
      expect(made.isBanned('p')).toBe(true);
    }
    expect(await client.zRangeWithScores('index:{bans}', 0, -1)).toEqual([
      { score: 1, value: 'foreign' },
    ]);
    expect(await client.hGetAll('peers:{bans}#peers')).toEqual({ version: '7' });
    expect(await client.exists(['index:{bans}#peers', 'peers:{bans}'])).toBe(0);
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
    closeAfterTest(() => own.close());
    const io = new Redis(own.port, '127.0.0.1', { enableReadyCheck: false });
    io.on('error', () => {});
    closeAfterTest(() => io.disconnect());
    const made = new SharedBans({ client: io, ...NO_DEADLINE });
    closeAfterTest(() => made.close());
    await expect(made.ready()).rejects.toThrow('NOAUTH');
  });
});
