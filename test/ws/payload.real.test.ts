// Messages that are not received completely, so that no limit has counted them yet.

import { once } from 'node:events';
import { DirectConnectionRateLimiter, OrderbookRateLimiter } from 'relay-limiter';
import { guardWebSocketServer } from 'relay-limiter/ws';
import { afterEach, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { codeOf, manualClock } from '../support/limiters.js';
import { run } from '../support/processes.js';
import { few, until } from '../support/sockets.js';
import { closing, connected, guarded, stopAll } from './support.js';

afterEach(stopAll);

/** The header of a masked binary frame with a payload of `length` bytes. */
function beginning(length: number): Buffer {
  const head = Buffer.alloc(14);
  head.set([0x82, 0xff]);
  head.writeBigUInt64BE(BigInt(length), 2);
  return head;
}

const raw = (peer: unknown) => (peer as { _socket: import('node:net').Socket })._socket;

test('a message above the burst of a rule by bytes closes before it is received, and is an offence', async () => {
  const expulsions = new OrderbookRateLimiter({ interval: 60, clock: manualClock() });
  const { port, verdicts, server } = await guarded({
    messages: [{ limiter: few(5) }, { limiter: few(1000), cost: 'bytes' }],
    expulsions,
  });
  const peer = await connected(port);
  const [socket] = server.clients;
  raw(peer).write(beginning(1001));
  expect((await closing(peer)).code).toBe(1009);
  expect(raw(socket)?.bytesRead ?? 0).toBeLessThan(1000);
  expect(verdicts.at(-1)).toMatchObject({ kind: 'message', did: 'closed', reason: 'length' });
  expect(expulsions.getStatistics().trackedPeers).toBe(1);
});

test('fragments of a message are kept up to the burst of a rule by bytes', async () => {
  const { port, verdicts } = await guarded({ messages: { limiter: few(1000), cost: 'bytes' } });
  const peer = await connected(port);
  for (let n = 0; n < 3; n += 1) peer.send(Buffer.alloc(400), { fin: false });
  expect((await closing(peer)).code).toBe(1009);
  expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'length' });
});

test('a message as long as the burst passes, and close() restores maxPayload', async () => {
  const limiter = new DirectConnectionRateLimiter({ messageBurst: 1000, clock: manualClock() });
  const { port, server, guard, received } = await guarded({
    messages: { limiter, cost: 'bytes' },
  });
  const peer = await connected(port);
  peer.send('x'.repeat(1000));
  await until(() => received.length === 1);
  guard.close();
  const other = await connected(port);
  other.send('x'.repeat(100_000));
  await until(() => received.length === 2);
  expect(server.options.maxPayload).toBe(100 * 2 ** 20);
});

test('maxPayload stays if it is below the burst, or without a rule by bytes', async () => {
  const bytes = { limiter: few(1000), cost: 'bytes' } as const;
  const small = await guarded({ messages: bytes }, { maxPayload: 500 });
  expect(small.server.options.maxPayload).toBe(500);
  const orders = new OrderbookRateLimiter({ interval: 1 });
  const counted = await guarded({ messages: [{ limiter: few(5) }, { ...bytes, limiter: orders }] });
  expect(counted.server.options.maxPayload).toBe(100 * 2 ** 20);
});

test('a maxPayload above the burst causes one warning per process', () => {
  const script = `
    import { RateLimiter } from 'relay-limiter';
    import { guardWebSocketServer } from 'relay-limiter/ws';
    import { WebSocketServer } from 'ws';
    process.on('warning', ({ code, message }) => console.log(code, message));
    const limiter = new RateLimiter({ rateLimit: 10, burstLimit: 1000 });
    const messages = { limiter, cost: 'bytes' };
    for (const maxPayload of [1000, undefined, 0, 5000]) {
      guardWebSocketServer(new WebSocketServer({ noServer: true, maxPayload }), { messages });
    }
  `;
  const { stdout, status } = run(script);
  expect(status).toBe(0);
  expect(stdout.split('\n')).toEqual([
    expect.stringMatching(/^WARN_LIMITER_MAX_PAYLOAD .* maxPayload: at most 1000, got Infinity$/),
  ]);
});

test('guardWebSocketServer rejects a limiter whose checks return promises', () => {
  const server = new WebSocketServer({ noServer: true });
  const shared = {
    check: () => ['allow', 0],
    checkAsync: async () => ['allow', 0],
    removePeer() {},
  };
  for (const options of [
    { messages: { limiter: shared } },
    { connections: { limiter: shared } },
    { expulsions: { ...shared, isBanned: () => false } },
  ]) {
    expect(codeOf(() => guardWebSocketServer(server, options as never))).toBe('ERR_LIMITER_OPTION');
  }
});

test('data after the close frame of a peer is not read while its messages wait', async () => {
  const clock = manualClock();
  const { port, server, received } = await guarded({
    messages: { limiter: few(1, { rateLimit: 1, clock }) },
    onDelay: 'pause',
    maxPauseSeconds: 3600,
  });
  const peer = await connected(port);
  const [socket] = server.clients;
  const tcp = raw(socket);
  const answered = once(peer, 'close');
  raw(peer).cork();
  peer.send('a');
  peer.send('b');
  peer.close();
  raw(peer).uncork();
  await until(() => tcp.isPaused());
  const flood = Buffer.alloc(1 << 20);
  for (let n = 0; n < 32; n += 1) raw(peer).write(flood);
  const readBefore = tcp.bytesRead;
  expect(readBefore).toBeLessThan(1 << 20);
  // The message passes after one second of real time, since the limiter's clock has advanced far enough.
  clock.now += 3600;
  await until(() => received.length === 2);
  expect(received).toEqual(['a', 'b']);
  peer.terminate();
  await answered;
  await until(() => server.clients.size === 0);
});
