// Pausing: a limit as back pressure. Real sockets and real time, in tenths of seconds.

import { once } from 'node:events';
import { OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { afterEach, describe, expect, test } from 'vitest';
import type { WebSocket } from 'ws';
import { ENGINES } from '../support/limiters.js';
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
  // Paused by its user before the guard is done: stays so.
  socket?.pause();
  await until(() => received.length === 2);
  await later(50);
  expect(socket?.isPaused).toBe(true);
  socket?.resume();
  expect(socket?.isPaused).toBe(false);
  peer.send('c');
  await until(() => received.length === 3);
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
  expect(await closing(peer)).toEqual({ code: 1008, reason: 'too many messages at once' });
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
