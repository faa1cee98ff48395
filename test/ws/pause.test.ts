// Pausing: a limit as back pressure. Real sockets and real time, in tenths of seconds.

import { once } from 'node:events';
import { OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { afterEach, describe, expect, test } from 'vitest';
import type { WebSocket } from 'ws';
import { ENGINES } from '../support/limiters.js';
import { runJson } from '../support/processes.js';
import { flood, later, tooEarly, until, watchedClock } from '../support/sockets.js';
import { uncaught } from '../support/uncaught.js';
import { closing, connected, guarded, stopAll } from './support.js';

afterEach(stopAll);

const raw = (peer: WebSocket) =>
  (peer as unknown as { _socket: import('node:net').Socket })._socket;

describe.each(ENGINES)('on the %s engine', (engine) => {
  test('all messages come, in order, and no faster than the limit', async () => {
    const clock = watchedClock();
    const limiter = new RateLimiter({ rateLimit: 100, burstLimit: 5, engine, clock });
    const { port, received, verdicts, server } = await guarded({
      messages: { limiter },
      onDelay: 'pause',
    });
    const times: number[] = [];
    server.on('connection', (socket) => socket.on('message', () => times.push(clock.last)));
    const peer = await connected(port);
    // In one chunk, which ws does not stop in the middle of.
    raw(peer).cork();
    for (let n = 0; n < 45; n += 1) peer.send(String(n));
    raw(peer).uncork();
    await until(() => received.length === 45);
    expect(received).toEqual(Array.from({ length: 45 }, (_, n) => String(n)));
    expect(tooEarly(times, 100, 5)).toEqual([]);
    // None was asked for too early: each of the others waited once at most.
    const waited = verdicts.filter(({ did }) => did === 'paused').length;
    expect(waited).toBeGreaterThan(0);
    expect(waited).toBeLessThanOrEqual(40);
  });
});

test('of two limits each takes its cost once', async () => {
  const messages = new RateLimiter({ rateLimit: 1e-3, burstLimit: 10 });
  const bytes = new RateLimiter({ rateLimit: 1000, burstLimit: 100 });
  const { port, received } = await guarded({
    messages: [
      { limiter: messages, key: () => 'all' },
      { limiter: bytes, key: () => 'all', cost: 'bytes' },
    ],
    onDelay: 'pause',
  });
  const peer = await connected(port);
  for (let n = 0; n < 4; n += 1) peer.send('x'.repeat(50));
  await until(() => received.length === 4);
  expect(messages.check('all', 6)[0]).toBe('allow');
  expect(messages.check('all', 1)[0]).toBe('delay');
});

test('a flooder is held back by TCP, and by nobody’s memory', async () => {
  const message = Buffer.alloc(16 << 10, 'x');
  const floodOn = async (onDelay: 'pause' | 'drop', milliseconds: number) => {
    const limiter = new RateLimiter({ rateLimit: 20, burstLimit: 1 });
    const { port } = await guarded({ messages: { limiter }, onDelay, onVerdict: () => {} });
    const peer = await connected(port);
    const send = () => {
      peer.send(message);
      return message.length;
    };
    return flood(milliseconds, () => peer.bufferedAmount, send);
  };
  expect((await floodOn('drop', 10_000)).taken).toBeGreaterThan(60 << 20);
  const held = await floodOn('pause', 1000);
  // What the system's buffers of one connection take, and what of it was read before the pause.
  expect(held.taken).toBeLessThan(24 << 20);
  expect(held.memory).toBeLessThan(16 << 20);
});

test('a pause that would be too long closes with 1013, and is no offence', async () => {
  const expulsions = new OrderbookRateLimiter({ interval: 60 });
  const { port, verdicts, received } = await guarded({
    messages: { limiter: new RateLimiter({ rateLimit: 0.1, burstLimit: 1 }) },
    onDelay: 'pause',
    maxPauseSeconds: 5,
    expulsions,
  });
  const peer = await connected(port);
  for (const text of ['a', 'b']) peer.send(text);
  expect((await closing(peer)).code).toBe(1013);
  expect(received).toEqual(['a']);
  expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'pause', action: 'delay' });
  expect(expulsions.getStatistics().trackedPeers).toBe(0);
});

test('a message above the burst could wait for ever, and closes with 1008', async () => {
  const { port, received } = await guarded({
    messages: { limiter: new RateLimiter({ burstLimit: 10 }), cost: 'bytes' },
    onDelay: 'pause',
  });
  const peer = await connected(port);
  peer.send('12345678901');
  expect((await closing(peer)).code).toBe(1008);
  expect(received).toEqual([]);
});

test('a socket that closes in the middle of a pause leaves nothing', async () => {
  const limiter = new RateLimiter({ rateLimit: 5, burstLimit: 1 });
  const { port, guard, server, received } = await guarded({
    messages: { limiter },
    onDelay: 'pause',
  });
  const paused = async () => {
    const peer = await connected(port);
    for (const text of ['a', 'b', 'c']) peer.send(text);
    await until(() => [...server.clients].at(-1)?.isPaused === true);
    return peer;
  };
  for (const end of ['terminate', 'close'] as const) {
    const peer = await paused();
    peer[end]();
    // And one that the server closes.
    await paused();
    [...server.clients].at(-1)?.terminate();
  }
  await until(() => guard.connections === 0 && server.clients.size === 0);
  const passed = received.length;
  await later(300);
  expect(received.length).toBe(passed);
  expect(limiter.getStats().trackedPeers).toBe(0);
});

test('its user may pause and resume, and the guard holds all the same', async () => {
  const limiter = new RateLimiter({ rateLimit: 10, burstLimit: 1 });
  const { port, server, received } = await guarded({ messages: { limiter }, onDelay: 'pause' });
  const peer = await connected(port);
  const [socket] = server.clients as Set<WebSocket>;
  for (const text of ['a', 'b']) peer.send(text);
  await until(() => socket?.isPaused === true);
  socket?.resume();
  expect(socket?.isPaused).toBe(true);
  // Paused by its user before the guard is done: stays so, and nothing comes.
  socket?.pause();
  await later(200);
  expect(received).toEqual(['a']);
  expect(socket?.isPaused).toBe(true);
  socket?.resume();
  await until(() => received.length === 2);
  expect(socket?.isPaused).toBe(false);
  peer.send('c');
  await until(() => received.length === 3);
});

test('its user may pause in the middle of what waited', async () => {
  const limiter = new RateLimiter({ rateLimit: 50, burstLimit: 1 });
  const { port, server, received } = await guarded({ messages: { limiter }, onDelay: 'pause' });
  server.on('connection', (socket) => {
    socket.on('message', (data) => {
      if (String(data) === 'b') socket.pause();
    });
  });
  const peer = await connected(port);
  raw(peer).cork();
  for (const text of ['a', 'b', 'c', 'd']) peer.send(text);
  raw(peer).uncork();
  await until(() => received.length === 2);
  await later(100);
  expect(received).toEqual(['a', 'b']);
  for (const socket of server.clients) socket.resume();
  await until(() => received.length === 4);
  expect(received).toEqual(['a', 'b', 'c', 'd']);
});

test('one that its user has paused does not keep others from their bucket', async () => {
  const limiter = new RateLimiter({ rateLimit: 20, burstLimit: 1 });
  const { port, server, received } = await guarded({
    messages: { limiter, key: 'address' },
    onDelay: 'pause',
  });
  const [first, second] = [await connected(port), await connected(port)];
  for (const text of ['a', 'b']) first.send(text);
  const [socket] = server.clients as Set<WebSocket>;
  await until(() => socket?.isPaused === true);
  socket?.pause();
  second.send('c');
  await until(() => received.length === 2);
  socket?.resume();
  await until(() => received.length === 3);
  expect(received).toEqual(['a', 'c', 'b']);
});

test('connections that share a bucket take turns, and none is refused for another', async () => {
  const limiter = new RateLimiter({ rateLimit: 100, burstLimit: 5, disconnectThreshold: 60 });
  const { port, received, verdicts } = await guarded({
    messages: { limiter, key: 'address' },
    onDelay: 'pause',
  });
  const peers = await Promise.all(Array.from({ length: 10 }, () => connected(port)));
  for (const peer of peers) for (let n = 0; n < 5; n += 1) peer.send(String(n));
  await until(() => received.length === 50);
  expect(verdicts.filter(({ did }) => did === 'closed')).toEqual([]);
  expect(limiter.getViolationCount('127.0.0.1')).toBeLessThanOrEqual(45);
});

test('who waits behind others waits no longer than maxPauseSeconds', async () => {
  const limiter = new RateLimiter({ rateLimit: 4, burstLimit: 1 });
  const { port, received, verdicts } = await guarded({
    messages: { limiter, key: 'address' },
    onDelay: 'pause',
    maxPauseSeconds: 0.4,
  });
  const peers = await Promise.all(Array.from({ length: 6 }, () => connected(port)));
  for (const peer of peers) peer.send('a');
  await until(() => received.length + verdicts.filter(({ did }) => did === 'closed').length === 6);
  expect(received).toHaveLength(2);
  expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'backlog' });
});

test('what came in one piece and cannot pass in time closes with 1013, though its peer has left', async () => {
  const expulsions = new OrderbookRateLimiter({ interval: 60 });
  const { port, guard, received } = await guarded({
    messages: { limiter: new RateLimiter({ rateLimit: 10, burstLimit: 1 }) },
    onDelay: 'pause',
    maxPauseSeconds: 0.3,
    closeGraceSeconds: 0.1,
    expulsions,
  });
  const peer = await connected(port);
  raw(peer).cork();
  for (let n = 0; n < 1000; n += 1) peer.send('x');
  raw(peer).uncork();
  raw(peer).end();
  await until(() => received.length > 0);
  const started = performance.now();
  await until(() => guard.connections === 0);
  expect(performance.now() - started).toBeLessThan(5000);
  expect(received.length).toBeLessThan(6);
  expect(expulsions.getStatistics().trackedPeers).toBe(0);
});

test('its user closes in the middle of a pause: the answer is read, what waits is dropped', async () => {
  const { port, server, received } = await guarded({
    messages: { limiter: new RateLimiter({ rateLimit: 0.1, burstLimit: 1 }) },
    onDelay: 'pause',
  });
  const peer = await connected(port);
  for (const text of ['a', 'b', 'c']) peer.send(text);
  const [socket] = server.clients as Set<WebSocket>;
  await until(() => socket?.isPaused === true);
  const closed = once(socket as WebSocket, 'close');
  socket?.close(1000, 'done');
  expect(await closing(peer)).toEqual({ code: 1000, reason: 'done' });
  expect((await closed)[0]).toBe(1000);
  expect(received).toEqual(['a']);
});

test('nor does anything wait when it is closed by whoever is told', async () => {
  const { port, guard, received } = await guarded({
    messages: { limiter: new RateLimiter({ rateLimit: 0.1, burstLimit: 1 }) },
    onDelay: 'pause',
    onVerdict: ({ did, socket }) => {
      if (did === 'paused') socket?.close(4000, 'enough');
    },
  });
  const peer = await connected(port);
  for (const text of ['a', 'b', 'c']) peer.send(text);
  expect((await closing(peer)).code).toBe(4000);
  await until(() => guard.connections === 0);
  expect(received).toEqual(['a']);
});

test('what waits takes no more of the heap than is said', () => {
  const script = `
    import { RateLimiter } from 'relay-limiter';
    import { guardWebSocketServer } from 'relay-limiter/ws';
    import { connect } from 'node:net';
    import { once } from 'node:events';
    import { WebSocketServer } from 'ws';
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    const limiter = new RateLimiter({ rateLimit: 0.1, burstLimit: 1 });
    const guard = guardWebSocketServer(server, { messages: { limiter }, onDelay: 'pause' });
    await once(server, 'listening');
    const upgrade = 'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n' +
      'Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n';
    const peers = [];
    for (let n = 0; n < 40; n += 1) {
      const peer = connect(server.address().port, '127.0.0.1');
      peer.write(upgrade);
      await once(peer, 'data');
      peers.push(peer.resume());
    }
    const frame = Buffer.from([0x82, 0x81, 0, 0, 0, 0, 120]);
    const settle = () => new Promise((done) => setTimeout(done, 300));
    const all = () => { gc(); return process.memoryUsage().heapUsed; };
    const before = all();
    for (const peer of peers) peer.write(Buffer.concat(Array(1700).fill(frame)));
    await settle();
    const perConnection = (all() - before) / peers.length;
    const waiting = guard.connections;
    for (const peer of peers) peer.write(Buffer.concat(Array(9000).fill(frame)));
    console.log(JSON.stringify({ perConnection, waiting }));
    process.exit();`;
  const outcome = runJson(script, { flags: ['--expose-gc'] });
  const { perConnection, waiting } = outcome as { perConnection: number; waiting: number };
  expect(waiting).toBe(40);
  expect(perConnection).toBeGreaterThan(50 << 10);
  // And what else a connection has by now.
  expect(perConnection).toBeLessThan(300 << 10);
});

test('very many tiny frames at once are not kept', async () => {
  const { port, verdicts } = await guarded({
    messages: { limiter: new RateLimiter({ rateLimit: 0.1, burstLimit: 1 }) },
    onDelay: 'pause',
  });
  const peer = await connected(port);
  const frame = Buffer.from([0x82, 0x80, 0, 0, 0, 0]);
  raw(peer).write(Buffer.concat(Array(5000).fill(frame)));
  expect(await closing(peer)).toEqual({ code: 1013, reason: 'too many messages at once' });
  expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'backlog' });
});

test('a compressed bomb of messages is not kept', async () => {
  const { port, verdicts } = await guarded(
    {
      messages: { limiter: new RateLimiter({ rateLimit: 0.5, burstLimit: 1 }) },
      onDelay: 'pause',
    },
    { perMessageDeflate: true },
  );
  const peer = await connected(port);
  const zeros = Buffer.alloc(200_000);
  raw(peer).cork();
  for (let n = 0; n < 50; n += 1) peer.send(zeros);
  await later(200);
  raw(peer).uncork();
  expect(await closing(peer)).toEqual({ code: 1013, reason: 'too many messages at once' });
  expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'backlog' });
});

test('a listener that throws after a pause stops nothing', async () => {
  const limiter = new RateLimiter({ rateLimit: 50, burstLimit: 1 });
  const { port, server, received } = await guarded({ messages: { limiter }, onDelay: 'pause' });
  server.on('connection', (socket) => {
    socket.on('message', () => {
      throw new Error('listener');
    });
  });
  const errors = await uncaught(async () => {
    const peer = await connected(port);
    for (const text of ['a', 'b', 'c']) peer.send(text);
    await until(() => received.length === 3);
    await later(0);
  });
  expect(errors).toHaveLength(3);
});

test('when the guard is taken off, what waits passes', async () => {
  const limiter = new RateLimiter({ rateLimit: 0.1, burstLimit: 1 });
  const { port, guard, received, server } = await guarded({
    messages: { limiter },
    onDelay: 'pause',
  });
  const peer = await connected(port);
  for (const text of ['a', 'b', 'c']) peer.send(text);
  await until(() => [...server.clients].some(({ isPaused }) => isPaused));
  guard.close();
  expect(guard.connections).toBe(0);
  peer.send('d');
  await until(() => received.length === 4);
  expect(received).toEqual(['a', 'b', 'c', 'd']);
  expect(limiter.getStats().trackedPeers).toBe(0);
  peer.close();
  await once(peer, 'close');
});

test('what a peer sent before it closed still passes', async () => {
  const limiter = new RateLimiter({ rateLimit: 20, burstLimit: 1 });
  const { port, received } = await guarded({ messages: { limiter }, onDelay: 'pause' });
  const peer = await connected(port);
  for (const text of ['1', '2', '3']) peer.send(text);
  peer.close();
  await closing(peer);
  expect(received).toEqual(['1', '2', '3']);
});

test('whoever is told of a pause may end the guard, and nothing is lost', async () => {
  const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 1 });
  const all: { close(): void }[] = [];
  const onVerdict = ({ did }: { did: string }) => {
    if (did === 'paused') all[0]?.close();
  };
  const { port, received, guard } = await guarded({
    messages: { limiter },
    onDelay: 'pause',
    onVerdict,
  });
  all.push(guard);
  const peer = await connected(port);
  for (const text of ['1', '2', '3']) peer.send(text);
  await until(() => received.length === 3);
  expect(received).toEqual(['1', '2', '3']);
});
