import { createHash } from 'node:crypto';
import { OrderbookRateLimiter } from 'relay-limiter';
import { SharedBans } from 'relay-limiter/redis';
import { describe, expect, it } from 'vitest';
import { CHANGE, PAGE, VERSION } from '../../lib/redis/bans/ban-scripts.js';
import { BadNetwork } from '../../out/soak/fleet/bad-network.js';
import { manualClock, ODD_KEYS } from '../support/limiters.js';
import { uncaught } from '../support/uncaught.js';
import {
  admin,
  bans,
  closeAfterTest,
  type NodeRedis,
  ownServer,
  withServer,
} from './support/bans.js';
import {
  CLIENTS,
  ioRedis,
  NO_DEADLINE,
  NO_SERVER,
  nodeRedis,
  startServer,
} from './support/store.js';

type Script = 'version' | 'change' | 'page';
type Answer = (script: Script, run: () => Promise<unknown>) => Promise<unknown>;

/** A client for which `answer` decides when and how a script runs. */
function withAnswer(client: object, answer: Answer): object {
  const scripts = new Map<string, Script>([
    [VERSION, 'version'],
    ...[CHANGE, createHash('sha1').update(CHANGE).digest('hex')].map(
      (text) => [text, 'change'] as const,
    ),
    ...[PAGE, createHash('sha1').update(PAGE).digest('hex')].map((text) => [text, 'page'] as const),
  ]);
  return new Proxy(client as NodeRedis, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (name === 'eval' || name === 'evalSha') {
        return (...args: Parameters<NodeRedis['eval']>) =>
          answer(scripts.get(String(args[0])) as Script, async () => target[name](...args));
      }
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

describe.skipIf(NO_SERVER)('SharedBans', () => {
  withServer();

  it.each(Object.entries(CLIENTS))(
    'publishes bans and lifts to other processes (%s)',
    async (name, connect) => {
      const start = performance.now();
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
      // 600 s, minus the time that the test has taken, plus that of the reply by which b knows the fleet's clock. The reply
      // has taken less than the test.
      const left = b.banSecondsLeft('p');
      expect(Math.abs(left - 600)).toBeLessThanOrEqual((performance.now() - start) / 1000);
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
    const { client, close } = await nodeRedis(ownServer().url);
    const b = new SharedBans({ client, prefix: 'thrown', ...NO_DEADLINE });
    closeAfterTest(close);
    closeAfterTest(() => b.close());
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
    a.ban('p', 10_000);
    await expect.poll(() => b.isBanned('p')).toBe(true);
    b.ban('p', 5000);
    a.ban('q', 1000);
    await expect.poll(() => b.isBanned('q')).toBe(true);
    expect(a.banSecondsLeft('p')).toBeGreaterThan(8000);
    expect(b.banSecondsLeft('p')).toBeGreaterThan(8000);
    b.ban('p', 20_000);
    await expect.poll(() => a.banSecondsLeft('p')).toBeGreaterThan(18_000);
    const c = await bans('merge');
    await expect.poll(() => c.banSecondsLeft('p')).toBeGreaterThan(18_000);
  });

  it('ends a ban after its time, and lets the store forget it', async () => {
    const clock = manualClock();
    const a = await bans('end', { clock });
    const client = await admin();
    a.ban('p', 600);
    const stored = ['end:{bans}', 'end:{bans}#peers'];
    await expect.poll(() => client.exists(stored)).toBe(2);
    for (const key of stored) {
      // A day to spare, in case the store's clock is set forward.
      expect(await client.ttl(key)).toBeGreaterThan(86_400 + 400);
      expect(await client.ttl(key)).toBeLessThanOrEqual(86_400 + 600);
    }
    clock.now += 599.9;
    expect(a.isBanned('p')).toBe(true);
    clock.now += 0.2;
    expect(a.isBanned('p')).toBe(false);
    a.ban('q', 0.05);
    const b = await bans('end');
    await expect.poll(() => b.isBanned('q')).toBe(false);
    await expect
      .poll(() => {
        // A change deletes what has ended.
        a.ban('r', 600);
        return client.zRange('end:{bans}', 0, -1);
      })
      .not.toContain('"q"');
  });

  it('reads bans and lifts that it missed without a connection', async () => {
    const network = await BadNetwork.start(ownServer().port);
    closeAfterTest(() => network.close());
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
    closeAfterTest(() => own.close());
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

  it.each(['index', 'states'])('sends bans again to a store that evicts their %s', async (what) => {
    const client = await admin();
    const a = await bans(`evicts-${what}`);
    a.ban('p', 600);
    await expect.poll(() => a.getStats().waiting).toBe(0);
    await client.del(`evicts-${what}:{bans}${what === 'index' ? '' : '#peers'}`);
    // A change shows the loss at once; otherwise the next look does, within five seconds.
    a.ban('q', 600);
    const b = await bans(`evicts-${what}`);
    await expect.poll(() => b.isBanned('p')).toBe(true);
    expect(a.isBanned('p')).toBe(true);
  });

  it('keeps changes that are made while it reads all bans again', async () => {
    const { client, close } = await nodeRedis(ownServer().url);
    closeAfterTest(close);
    let isReading = false;
    let isRead = false;
    let go = () => {};
    const released = new Promise<void>((resolve) => {
      go = resolve;
    });
    const slow = withAnswer(client, async (script, run) => {
      const reply = await run();
      if (script !== 'page' || !isReading) return reply;
      isRead = true;
      await released;
      return reply;
    });
    const a = new SharedBans({ client: slow, prefix: 'reread', ...NO_DEADLINE });
    closeAfterTest(() => a.close());
    await expect.poll(() => a.getStats().state).toBe('up');
    const b = await bans('reread');
    b.ban('y', 600);
    b.ban('z', 600);
    await expect.poll(() => a.isBanned('y') && a.isBanned('z')).toBe(true);
    const store = await admin();
    isReading = true;
    // A change without a message.
    await store.hIncrBy('reread:{bans}#peers', 'version', 1);
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
    expect(await store.hExists('reread:{bans}#peers', 'p"p"')).toBe(1);
  });

  it('follows the order in which a ban and a lift were made, whatever order the store gets them in', async () => {
    const { client, close } = await nodeRedis(ownServer().url);
    closeAfterTest(close);
    let isHeld = false;
    let go = () => {};
    const released = new Promise<void>((resolve) => {
      go = resolve;
    });
    const late = withAnswer(client, async (script, run) => {
      if (script === 'change' && isHeld) await released;
      return run();
    });
    const a = await bans('race');
    const b = new SharedBans({ client: late, prefix: 'race', ...NO_DEADLINE });
    closeAfterTest(() => b.close());
    await expect.poll(() => b.getStats().state).toBe('up');
    // Both know the time of the store now.
    a.ban('known', 600);
    await expect.poll(() => b.isBanned('known')).toBe(true);
    isHeld = true;
    const limiter = new OrderbookRateLimiter();
    b.share(limiter);
    const received: string[] = [];
    b.on('lift', ({ key }) => received.push(`lift ${key}`));
    b.on('ban', ({ key }) => received.push(`ban ${key}`));
    b.ban('first', 600);
    b.lift('known');
    // The time of a node is behind the store's by as long as the answer took that it was read from. This node reads it
    // after b has dated its changes.
    const later = await bans('race');
    later.lift('first');
    later.ban('known', 300);
    await expect.poll(() => received).toEqual(['lift first', 'ban known']);
    isHeld = false;
    go();
    await expect.poll(() => b.getStats().waiting).toBe(0);
    await expect.poll(() => a.banSecondsLeft('known')).toBeLessThanOrEqual(300);
    for (const one of [a, b])
      expect([one.isBanned('first'), one.isBanned('known')]).toEqual([false, true]);
    expect([limiter.isBanned('first'), limiter.isBanned('known')]).toEqual([false, true]);
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
});
