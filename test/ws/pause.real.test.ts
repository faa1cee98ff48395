// Pauses of real sockets: a limit as backpressure. pause.test.ts tests the exact times.

import { once } from 'node:events';
import { constants, deflateRawSync } from 'node:zlib';
import { OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { afterEach, describe, expect, test } from 'vitest';
import type { WebSocket } from 'ws';
import { ENGINES, manualClock } from '../support/limiters.js';
import { few, tooEarly, until, watchedClock } from '../support/sockets.js';
import { uncaught } from '../support/uncaught.js';
import { closing, connected, guarded, stopAll } from './support.js';

afterEach(stopAll);

/** On a slow machine, a pause may last long. */
const PAUSING = { onDelay: 'pause', maxPauseSeconds: 3600 } as const;
const FLOOD = Buffer.alloc(16 << 10, 'x');
const OTHERS = Buffer.alloc(16 << 10, 'y');

const raw = (peer: WebSocket) =>
  (peer as unknown as { _socket: import('node:net').Socket })._socket;

describe.each(ENGINES)('A pausing guard on the %s engine', (engine) => {
  test('delivers all messages in order and no faster than the limit', async () => {
    const clock = watchedClock();
    const limiter = new RateLimiter({ rateLimit: 100, burstLimit: 5, engine, clock });
    const { port, received, server } = await guarded({ messages: { limiter }, ...PAUSING });
    const times: number[] = [];
    server.on('connection', (socket) => socket.on('message', () => times.push(clock.last)));
    const peer = await connected(port);
    // In one chunk: ws does not stop in the middle of it.
    raw(peer).cork();
    for (let n = 0; n < 45; n += 1) peer.send(String(n));
    raw(peer).uncork();
    await until(() => received.length === 45);
    expect(received).toEqual(Array.from({ length: 45 }, (_, n) => String(n)));
    expect(tooEarly(times, 100, 5)).toEqual([]);
  });
});

test('each of two limits takes its cost once', async () => {
  const messages = few(10);
  const bytes = new RateLimiter({ rateLimit: 1000, burstLimit: 100 });
  const { port, received } = await guarded({
    messages: [
      { limiter: messages, key: () => 'all' },
      { limiter: bytes, key: () => 'all', cost: 'bytes' },
    ],
    ...PAUSING,
  });
  const peer = await connected(port);
  for (let n = 0; n < 4; n += 1) peer.send('x'.repeat(50));
  await until(() => received.length === 4);
  expect((await messages.check('all', 6))[0]).toBe('allow');
  expect((await messages.check('all', 1))[0]).toBe('delay');
});

test('TCP slows a flooder down while another peer is served', async () => {
  const isFlood = (data: unknown) => (data as Buffer)[0] === FLOOD[0];
  const { port, server } = await guarded({
    messages: { limiter: few(1, { rateLimit: 20 }), cost: (data) => Number(isFlood(data)) },
    ...PAUSING,
    onVerdict: () => {},
  });
  let served = 0;
  server.on('connection', (socket) => {
    socket.on('message', (data) => {
      if (!isFlood(data)) served += 1;
    });
  });
  const flooder = await connected(port);
  const [held] = server.clients as Set<WebSocket>;
  for (let n = 0; n < 1000; n += 1) flooder.send(FLOOD);
  await until(() => held?.isPaused === true);
  const other = await connected(port);
  for (let n = 0; n < 1000; n += 1) other.send(OTHERS);
  await until(() => served === 1000);
  // A paused socket is not read: only the first chunks of 64 KB were read, of 16 MB in all.
  expect(raw(held as WebSocket).bytesRead).toBeLessThan(1 << 20);
});

test('nothing is kept of a socket that closes during a pause', async () => {
  const clock = manualClock();
  const limiter = few(1, { rateLimit: 20, clock });
  const { port, guard, server } = await guarded({ messages: { limiter }, ...PAUSING });
  const paused = async () => {
    const peer = await connected(port);
    for (const text of ['a', 'b', 'c']) peer.send(text);
    await until(() => [...server.clients].at(-1)?.isPaused === true);
    return peer;
  };
  for (const end of ['terminate', 'close'] as const) {
    const peer = await paused();
    peer[end]();
    // The server closes the second connection.
    await paused();
    [...server.clients].at(-1)?.terminate();
  }
  // While its socket is paused, the end of a peer is noticed only after its messages have passed.
  await until(() => {
    clock.now += 1;
    return guard.connections === 0 && server.clients.size === 0;
  });
  expect(limiter.getStats().trackedPeers).toBe(0);
});

test('messages of one chunk that cannot pass in time close with 1013, even after the peer’s end', async () => {
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
  await until(() => guard.connections === 0);
  // The burst, and the tokens that are refilled during the longest pause.
  expect(received.length).toBeLessThanOrEqual(5);
  expect(expulsions.getStatistics().trackedPeers).toBe(0);
});

test('close() of the user during a pause drops waiting messages and reads the peer’s answer', async () => {
  const { port, server, received } = await guarded({
    messages: { limiter: few(1) },
    ...PAUSING,
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

test('close() by onVerdict during a pause drops waiting messages', async () => {
  const { port, guard, received } = await guarded({
    messages: { limiter: few(1) },
    ...PAUSING,
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

test('too many tiny frames in one chunk close with 1013', async () => {
  const { port, verdicts } = await guarded({
    messages: { limiter: few(1) },
    ...PAUSING,
  });
  const peer = await connected(port);
  const frame = Buffer.from([0x82, 0x80, 0, 0, 0, 0]);
  raw(peer).write(Buffer.concat(Array(5000).fill(frame)));
  expect(await closing(peer)).toEqual({ code: 1013, reason: 'too many messages at once' });
  expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'backlog' });
});

test('too many compressed messages in one chunk close with 1013', async () => {
  const { port, verdicts } = await guarded(
    { messages: { limiter: few(1) }, ...PAUSING },
    { perMessageDeflate: true },
  );
  const peer = await connected(port);
  // A final, compressed, binary frame with a length of two bytes and a mask of zeros.
  const zeros = deflateRawSync(Buffer.alloc(200_000), { finishFlush: constants.Z_SYNC_FLUSH });
  const payload = zeros.subarray(0, -4);
  const { length } = payload;
  const header = [0xc2, 0x80 | 126, length >> 8, length & 0xff, 0, 0, 0, 0];
  const frame = Buffer.concat([Buffer.from(header), payload]);
  raw(peer).write(Buffer.concat(Array(50).fill(frame)));
  expect(await closing(peer)).toEqual({ code: 1013, reason: 'too many messages at once' });
  expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'backlog' });
});

test('a listener that throws after a pause does not stop the next messages', async () => {
  const limiter = new RateLimiter({ rateLimit: 50, burstLimit: 1 });
  const { port, server, received } = await guarded({ messages: { limiter }, ...PAUSING });
  server.on('connection', (socket) => {
    socket.on('message', () => {
      throw new Error('listener');
    });
  });
  const errors = await uncaught(async () => {
    const peer = await connected(port);
    for (const text of ['a', 'b', 'c']) peer.send(text);
    await until(() => received.length === 3);
  });
  expect(errors).toHaveLength(3);
});

test('close() of the guard delivers waiting messages', async () => {
  const limiter = few(1);
  const { port, guard, received, server } = await guarded({ messages: { limiter }, ...PAUSING });
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

test('messages that a peer sent before its close still pass', async () => {
  const limiter = new RateLimiter({ rateLimit: 20, burstLimit: 1 });
  const { port, received } = await guarded({ messages: { limiter }, ...PAUSING });
  const peer = await connected(port);
  for (const text of ['1', '2', '3']) peer.send(text);
  peer.close();
  await closing(peer);
  expect(received).toEqual(['1', '2', '3']);
});

test('onVerdict may close the guard during a pause, and no message is lost', async () => {
  const limiter = few(1);
  const all: { close(): void }[] = [];
  const onVerdict = ({ did }: { did: string }) => {
    if (did === 'paused') all[0]?.close();
  };
  const { port, received, guard } = await guarded({
    messages: { limiter },
    ...PAUSING,
    onVerdict,
  });
  all.push(guard);
  const peer = await connected(port);
  for (const text of ['1', '2', '3']) peer.send(text);
  await until(() => received.length === 3);
  expect(received).toEqual(['1', '2', '3']);
});
