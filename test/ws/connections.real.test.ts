import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { guardWebSocketServer } from 'relay-limiter/ws';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { codeOf, ENGINES, manualClock } from '../support/limiters.js';
import { few, until } from '../support/sockets.js';
import {
  caughtUp,
  client,
  closing,
  connected,
  guarded,
  httpServer,
  refusal,
  stopAll,
  stopLater,
  stopper,
} from './support.js';

afterEach(stopAll);

const twice = (engine: 'native' | 'js' = 'js') =>
  new RateLimiter({ rateLimit: 0.1, burstLimit: 2, engine, clock: manualClock() });

describe.each(ENGINES)('A connection on the %s engine', (engine) => {
  test('above the limit is refused with 429 and Retry-After, before the upgrade', async () => {
    const { port, verdicts, server } = await guarded({ connections: { limiter: twice(engine) } });
    await connected(port);
    await connected(port);
    expect(await refusal(client(port))).toEqual({ status: 429, retryAfter: '10' });
    expect(server.clients.size).toBe(2);
    expect(verdicts.map(({ kind, did, reason }) => [kind, did, reason])).toEqual([
      ['connection', 'passed', undefined],
      ['connection', 'passed', undefined],
      ['connection', 'refused', 'rate'],
    ]);
    expect(verdicts[2]).toMatchObject({
      action: 'delay',
      delaySeconds: 10,
      key: '127.0.0.1',
      address: '127.0.0.1',
    });
  });

  test('that a RateLimiter disconnects is refused with its delay as Retry-After', async () => {
    const clock = manualClock();
    const limiter = few(1, { rateLimit: 0.01, disconnectThreshold: 0, engine, clock });
    const { port, verdicts } = await guarded({ connections: { limiter } });
    await connected(port);
    expect(await refusal(client(port))).toEqual({ status: 429, retryAfter: '100' });
    expect(verdicts.at(-1)).toMatchObject({ action: 'disconnect', delaySeconds: 100 });
  });

  test('from an address that was expelled too often is refused while the ban lasts', async () => {
    const clock = manualClock();
    const expulsions = new OrderbookRateLimiter({
      interval: 60,
      violationBanThreshold: 1,
      banDuration: 600,
      engine,
      clock,
    });
    const { port, guard, server } = await guarded({ expulsions });
    for (let n = 0; n < 3; n += 1) {
      const peer = await connected(port);
      const [socket] = [...server.clients].slice(-1);
      expect(guard.expel(socket as never, 'you know why')).toBe(true);
      expect(guard.expel(socket as never)).toBe(false);
      expect(await closing(peer)).toEqual({ code: 1008, reason: 'you know why' });
    }
    expect(await refusal(client(port))).toEqual({ status: 429, retryAfter: '600' });
    clock.now += 99.5;
    expect(await refusal(client(port))).toEqual({ status: 429, retryAfter: '501' });
    // Other addresses are not affected.
    await connected(port, { localAddress: '127.0.0.2' });
    clock.now += 500.5;
    await connected(port);
  });
});

describe('A guarded WebSocketServer', () => {
  test('limits connections in the mode `server`', async () => {
    const { server: http, port } = await httpServer();
    const server = new WebSocketServer({ server: http });
    stopLater(stopper(server));
    guardWebSocketServer(server, { connections: { limiter: twice() } });
    await connected(port);
    await connected(port);
    expect((await refusal(client(port))).status).toBe(429);
  });

  test('limits connections and messages in the mode `noServer`, without a connection event', async () => {
    const { server: http, port } = await httpServer();
    const server = new WebSocketServer({ noServer: true });
    stopLater(stopper(server));
    const received: string[] = [];
    const messages = { limiter: few(1) };
    guardWebSocketServer(server, { connections: { limiter: twice() }, messages });
    http.on('upgrade', (request, socket, head) => {
      server.handleUpgrade(request, socket, head, (ws) => {
        ws.on('message', (data) => received.push(data.toString()));
      });
    });
    const peer = await connected(port);
    peer.send('one');
    peer.send('two');
    peer.close();
    await closing(peer);
    expect(received).toEqual(['one']);
    await connected(port);
    expect((await refusal(client(port))).status).toBe(429);
  });

  test('does not count requests for another `path`', async () => {
    const { server: http, port } = await httpServer();
    const server = new WebSocketServer({ server: http, path: '/relay' });
    stopLater(stopper(server));
    const limiter = twice();
    guardWebSocketServer(server, { connections: { limiter } });
    for (let n = 0; n < 5; n += 1) expect((await refusal(client(port))).status).toBe(400);
    expect(limiter.getStats().trackedPeers).toBe(0);
  });
});

describe('The verifyClient of the user', () => {
  test('is called after the guard, in its synchronous and its asynchronous form', async () => {
    for (const form of ['sync', 'async'] as const) {
      let calls = 0;
      const verifyClient =
        form === 'sync'
          ? ({ req }: { req: { headers: object } }) => {
              calls += 1;
              return 'x-token' in req.headers;
            }
          : (
              { req }: { req: { headers: object } },
              answer: (accepted: boolean, code?: number) => void,
            ) => {
              calls += 1;
              setImmediate(() => answer('x-token' in req.headers, 403));
            };
      const { port, guard } = await guarded(
        { connections: { limiter: twice() } },
        { verifyClient },
      );
      const status = form === 'sync' ? 401 : 403;
      expect((await refusal(client(port))).status).toBe(status);
      await connected(port, { headers: { 'x-token': 'yes' } });
      expect((await refusal(client(port))).status).toBe(429);
      expect(calls).toBe(2);
      expect(guard.connections).toBe(1);
    }
  });
});

describe('A guard by address', () => {
  test('counts open connections, and none that is closed or was never upgraded', async () => {
    const { port, guard, verdicts } = await guarded(
      { connections: { maxPerAddress: 2 } },
      { verifyClient: ({ req }: { req: { url?: string | undefined } }) => req.url === '/' },
    );
    const first = await connected(port);
    await connected(port);
    expect((await refusal(client(port))).status).toBe(429);
    expect(verdicts.at(-1)).toMatchObject({ did: 'refused', reason: 'concurrency' });
    await connected(port, { localAddress: '127.0.0.2' });
    first.terminate();
    await until(() => guard.connections === 2);
    await connected(port);
    expect((await refusal(client(port))).status).toBe(429);
  });

  test('ignores a spoofed X-Forwarded-For', async () => {
    const { port, verdicts } = await guarded({ connections: { limiter: twice() } });
    const spoofed = (address: string) => ({ headers: { 'X-Forwarded-For': address } });
    await connected(port, spoofed('192.0.2.1'));
    await connected(port, spoofed('192.0.2.2'));
    expect((await refusal(client(port, spoofed('192.0.2.3')))).status).toBe(429);
    expect(verdicts.every(({ address }) => address === '127.0.0.1')).toBe(true);
  });

  test('counts each client behind a trusted proxy by its own address', async () => {
    const { port } = await guarded({
      trustedProxies: 'loopback',
      connections: { limiter: few(1) },
    });
    const from = (address: string) => ({ headers: { 'X-Forwarded-For': address } });
    await connected(port, from('192.0.2.1'));
    await connected(port, from('2001:db8::1'));
    expect((await refusal(client(port, from('2001:db8::2')))).status).toBe(429);
    // The address that the proxy appended counts, not the client's claim before it. An invalid one counts as the proxy.
    expect((await refusal(client(port, from('198.51.100.1, 192.0.2.1')))).status).toBe(429);
    await connected(port, from('192.0.2.9, unknown'));
    expect((await refusal(client(port, from('garbage')))).status).toBe(429);
    await connected(port, from('198.51.100.1'));
  });

  test('gives each connection of a Unix socket its own limits, and removes them at its end', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'relay-limiter-'));
    const path = join(folder, 'socket');
    const http = createServer();
    try {
      http.listen(path);
      await once(http, 'listening');
      const server = new WebSocketServer({ server: http });
      stopLater(stopper(server));
      const limiters = [few(1), few(1)] as const;
      let received = 0;
      const guard = guardWebSocketServer(server, {
        connections: { limiter: limiters[0], maxPerAddress: 1 },
        messages: { limiter: limiters[1], key: 'address' },
      });
      server.on('connection', (socket) => socket.on('message', () => (received += 1)));
      const peers = [0, 1].map(() => new WebSocket(`ws+unix:${path}:/`));
      for (const peer of peers) {
        if (peer.readyState !== peer.OPEN) await once(peer, 'open');
        peer.send('a');
        peer.send('b');
      }
      await Promise.all(peers.map(caughtUp));
      expect(received).toBe(2);
      for (const peer of peers) peer.close();
      await until(() => guard.connections === 0 && server.clients.size === 0);
      await until(() => limiters.every((limiter) => limiter.getStats().trackedPeers === 0));
    } finally {
      http.close();
      rmSync(folder, { recursive: true });
    }
  });
});

test('a verifyClient that is set later is called after the guard', async () => {
  const { port, guard, server } = await guarded({ connections: { maxPerAddress: 1 } });
  let calls = 0;
  server.options.verifyClient = () => {
    calls += 1;
    return true;
  };
  await connected(port);
  expect((await refusal(client(port))).status).toBe(429);
  server.options = { ...server.options, verifyClient: () => false };
  expect((await refusal(client(port, { localAddress: '127.0.0.2' }))).status).toBe(401);
  expect([calls, guard.connections]).toEqual([1, 1]);
});

test('a key function that throws closes the connection with 1011', async () => {
  const key = () => {
    throw new Error('no key');
  };
  const errors: unknown[] = [];
  const { port, guard, verdicts } = await guarded({
    messages: { limiter: new RateLimiter(), key },
    onError: (error, { socket, request }) => errors.push(error, socket?.readyState, request.url),
  });
  expect((await closing(client(port))).code).toBe(1011);
  expect(guard.connections).toBe(0);
  expect(errors).toEqual([new Error('no key'), WebSocket.OPEN, '/']);
  expect(verdicts).toMatchObject([{ kind: 'connection', did: 'closed', reason: 'error' }]);
});

test('a limiter or trustedProxies that throws refuses with 503 and calls onError', async () => {
  const broken = Object.assign(new RateLimiter(), {
    check() {
      throw new Error('no answer');
    },
  });
  const trustedProxies = () => {
    throw new Error('no trust');
  };
  for (const options of [{ connections: { limiter: broken } }, { trustedProxies }]) {
    const errors: unknown[] = [];
    const onError = (error: unknown) => errors.push(error);
    const { port, guard, verdicts } = await guarded({ ...options, onError });
    const headers = { 'X-Forwarded-For': '192.0.2.1' };
    expect((await refusal(client(port, { headers }))).status).toBe(503);
    expect(errors).toHaveLength(1);
    expect(verdicts).toMatchObject([{ kind: 'connection', did: 'refused', reason: 'error' }]);
    expect(guard.connections).toBe(0);
  }
});

test('a guard keeps nothing of many connections that have closed', async () => {
  const limiter = new RateLimiter();
  const { port, guard, server, received } = await guarded({
    connections: { maxPerAddress: 50 },
    messages: [{ limiter }, { limiter: new RateLimiter(), cost: 'bytes' }],
  });
  for (let round = 0; round < 10; round += 1) {
    const peers = await Promise.all(Array.from({ length: 20 }, () => connected(port)));
    for (const peer of peers) peer.send('hello');
    for (const [n, peer] of peers.entries()) n % 2 === 0 ? peer.close() : peer.terminate();
    await Promise.all(peers.map((peer) => once(peer, 'close')));
  }
  await until(() => guard.connections === 0);
  await until(() => server.clients.size === 0);
  expect(received.length).toBeGreaterThanOrEqual(100);
  expect(limiter.getStats().trackedPeers).toBe(0);
  // The address may open as many connections as before.
  await Promise.all(Array.from({ length: 50 }, () => connected(port)));
  expect((await refusal(client(port))).status).toBe(429);
});

test('close() restores the server and its sockets', async () => {
  const { port, guard, server } = await guarded({ connections: { maxPerAddress: 1 } });
  await connected(port);
  guard.close();
  expect(Object.hasOwn(server, 'handleUpgrade')).toBe(false);
  expect(server.options.verifyClient).toBeNull();
  for (const socket of server.clients) {
    expect(['emit', 'close', 'pause', 'resume'].some((name) => Object.hasOwn(socket, name))).toBe(
      false,
    );
  }
  await connected(port);
  expect(guard.connections).toBe(0);
});

test('guardWebSocketServer rejects invalid options', async () => {
  const server = new WebSocketServer({ noServer: true });
  const limiter = new RateLimiter();
  const wrong = [
    null,
    { message: {} },
    { messages: {} },
    { messages: { limiter: {} } },
    { messages: { limiter, key: 'peer' } },
    { messages: { limiter, cost: 2 } },
    { messages: [{ limiter, costs: 'bytes' }] },
    { connections: limiter },
    { connections: { maxPerAddress: 0 } },
    { connections: { limiter: 5 } },
    { expulsions: limiter },
    { onDelay: 'wait' },
    { maxPauseSeconds: 0 },
    { maxPauseSeconds: 1e7 },
    { closeGraceSeconds: -1 },
    { onVerdict: 'log' },
    { onError: 'log' },
    { trustedProxies: 'proxy' },
    { ipv6Subnet: 0 },
  ];
  for (const options of wrong) {
    expect(codeOf(() => guardWebSocketServer(server, options as object))).toBe(
      'ERR_LIMITER_OPTION',
    );
  }
  expect(codeOf(() => guardWebSocketServer({} as WebSocketServer))).toBe('ERR_LIMITER_OPTION');
  expect(Object.hasOwn(server, 'handleUpgrade')).toBe(false);
});
