import { once } from 'node:events';
import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { connectionKey } from 'relay-limiter/address';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { createWebSocketStream, type WebSocket } from 'ws';
import { ENGINES, manualClock } from '../support/limiters.js';
import { runJson } from '../support/processes.js';
import { few, until } from '../support/sockets.js';
import { uncaught } from '../support/uncaught.js';
import { caughtUp, client, closing, connected, guarded, refusal, stopAll } from './support.js';

afterEach(stopAll);

describe.each(ENGINES)('A message limit on the %s engine', (engine) => {
  test('drops messages, with each of the three limiters', async () => {
    const clock = manualClock();
    const limiters = [
      new RateLimiter({ rateLimit: 1, burstLimit: 1, engine, clock }),
      new OrderbookRateLimiter({ interval: 10, engine, clock }),
      new DirectConnectionRateLimiter({ messageRatePerSec: 1, messageBurst: 1, engine, clock }),
    ];
    for (const limiter of limiters) {
      const { port, received, verdicts } = await guarded({ messages: { limiter } });
      const peer = await connected(port);
      for (const text of ['a', 'b', 'c']) peer.send(text);
      await caughtUp(peer);
      expect(received).toEqual(['a']);
      expect(verdicts.slice(1, 4).map(({ kind, did, data }) => [kind, did, String(data)])).toEqual([
        ['message', 'passed', 'a'],
        ['message', 'dropped', 'b'],
        ['message', 'dropped', 'c'],
      ]);
      peer.close();
      await closing(peer);
      await until(() => tracked(limiter) === 0);
    }
  });

  test('closes with 1008 on DISCONNECT, which is an offence of the address', async () => {
    const limiter = few(1, { disconnectThreshold: 2, engine });
    const expulsions = new OrderbookRateLimiter({
      interval: 60,
      violationBanThreshold: 0,
      engine,
      clock: manualClock(),
    });
    const { port, received, verdicts } = await guarded({ messages: { limiter }, expulsions });
    const peer = await connected(port);
    for (const text of ['a', 'b', 'c', 'd', 'e']) peer.send(text);
    expect(await closing(peer)).toEqual({ code: 1008, reason: 'rate limit exceeded' });
    expect(received).toEqual(['a']);
    expect(
      verdicts.slice(1).map(({ did, reason, delaySeconds }) => [did, reason, delaySeconds]),
    ).toEqual([
      ['passed', undefined, 0],
      ['dropped', 'rate', 1000],
      ['closed', 'disconnect', 1000],
    ]);
    await until(() => limiter.getStats().trackedPeers === 0);
    expect(expulsions.isBanned('127.0.0.1')).toBe(true);
    expect((await refusal(client(port))).retryAfter).toBe('3600');
  });

  test('by address that bans closes with 1008 and refuses new connections', async () => {
    const limiter = new OrderbookRateLimiter({
      interval: 60,
      violationBanThreshold: 1,
      engine,
      clock: manualClock(),
    });
    const { port } = await guarded({ messages: { limiter, key: 'address' } });
    const peer = await connected(port);
    for (const text of ['a', 'b', 'c']) peer.send(text);
    expect((await closing(peer)).code).toBe(1008);
    expect((await refusal(client(port))).status).toBe(429);
    await connected(port, { localAddress: '127.0.0.2' });
  });
});

test('limits count bytes, pings and pongs, and call a cost function only for messages', async () => {
  const counted = few(100);
  const bytes = few(1000);
  const orders = new OrderbookRateLimiter({ interval: 10, clock: manualClock() });
  const { port, received, server } = await guarded({
    messages: [
      { limiter: counted, key: () => 'all' },
      { limiter: bytes, key: () => 'all', cost: 'bytes' },
      { limiter: orders, key: () => 'all', cost: (data) => (String(data) === '!book' ? 1 : 0) },
    ],
  });
  const pings: string[] = [];
  server.on('connection', (socket) => socket.on('ping', (data) => pings.push(data.toString())));
  const peer = await connected(port);
  for (const text of ['12345', '!book', '!book', '']) peer.send(text);
  peer.ping('1234');
  peer.pong('123');
  await caughtUp(peer);
  expect(received).toEqual(['12345', '!book', '']);
  expect(pings).toEqual(['1234', '']);
  expect((await counted.check('all', 93))[0]).toBe('allow');
  expect((await counted.check('all', 1))[0]).toBe('delay');
  expect((await bytes.check('all', 1000 - 5 - 5 - 5 - 1 - 4 - 3 - 1))[0]).toBe('allow');
  expect((await bytes.check('all', 1))[0]).toBe('delay');
});

test('an empty message costs one byte', async () => {
  const { port, received } = await guarded({ messages: { limiter: few(10), cost: 'bytes' } });
  const peer = await connected(port);
  for (let n = 0; n < 20; n += 1) peer.send('');
  await caughtUp(peer);
  expect(received).toHaveLength(10);
});

test('pongs are counted but always delivered, since the server may have sent the pings', async () => {
  const limiter = few(1, { disconnectThreshold: 4 });
  const { port, server, verdicts } = await guarded({ messages: { limiter } });
  const pongs: string[] = [];
  server.on('connection', (socket) => socket.on('pong', (data) => pongs.push(data.toString())));
  const peer = await connected(port);
  peer.send('a');
  await until(() => verdicts.length === 2);
  for (const text of ['1', '2', '3']) for (const socket of server.clients) socket.ping(text);
  await until(() => pongs.length === 3);
  expect(pongs).toEqual(['1', '2', '3']);
  // A flood of pongs still leads to DISCONNECT.
  peer.pong();
  expect((await closing(peer)).code).toBe(1008);
});

describe('Listeners get only allowed messages', () => {
  test('if they were added before the guard', async () => {
    const { port, received } = await guarded({ messages: { limiter: few(1) } }, {}, 'before');
    const peer = await connected(port);
    for (const text of ['a', 'b']) peer.send(text);
    await caughtUp(peer);
    expect(received).toEqual(['a']);
  });

  test('by addEventListener, onmessage, once, and as a stream', async () => {
    const { port, server } = await guarded({ messages: { limiter: few(2) } });
    const got: string[] = [];
    server.on('connection', (socket) => {
      socket.addEventListener('message', ({ data }) => got.push(`event ${data}`));
      socket.onmessage = ({ data }) => got.push(`on ${data}`);
      socket.once('message', (data) => got.push(`once ${data}`));
      createWebSocketStream(socket).on('data', (chunk) => got.push(`stream ${chunk}`));
    });
    const peer = await connected(port);
    for (const text of ['a', 'b', 'c']) peer.send(text);
    await until(() => got.length >= 7);
    await caughtUp(peer);
    expect(got.sort()).toEqual(
      ['event a', 'event b', 'on a', 'on b', 'once a', 'stream a', 'stream b'].sort(),
    );
  });

  test('if messages are compressed or fragmented, with every binaryType', async () => {
    const limiter = few(1e6);
    const { port, server } = await guarded(
      { messages: { limiter, key: () => 'all', cost: 'bytes' } },
      { perMessageDeflate: { threshold: 0 } },
    );
    const kinds: string[] = [];
    const types = ['nodebuffer', 'arraybuffer', 'fragments'] as const;
    server.on('connection', (socket) => {
      socket.binaryType = types[0];
      socket.on('message', (data) => {
        kinds.push(data.constructor.name);
        socket.binaryType = types[kinds.length] ?? types[0];
      });
    });
    const peer = await connected(port);
    const sent = Buffer.alloc(10_000, 'a');
    for (let n = 0; n < 3; n += 1) {
      peer.send(sent.subarray(0, 4000), { fin: false });
      peer.send(sent.subarray(4000), { fin: true });
      await until(() => kinds.length > n);
    }
    expect(kinds).toEqual(['Buffer', 'ArrayBuffer', 'Array']);
    expect((await limiter.check('all', 970_000))[0]).toBe('allow');
    expect((await limiter.check('all', 1))[0]).toBe('delay');
  });
});

test('other events keep their number of arguments', async () => {
  const { port, server, guard } = await guarded({ messages: { limiter: few(10) } });
  const counts: number[] = [];
  const [[socket]] = await Promise.all([
    once(server, 'connection') as Promise<[WebSocket]>,
    connected(port),
  ]);
  socket.on('mine', (...all) => counts.push(all.length));
  for (const own of [[], ['a'], ['a', 'b', 'c', undefined]]) socket.emit('mine', ...own);
  guard.close();
  socket.emit('mine', 'a', 'b');
  expect(counts).toEqual([0, 1, 4, 2]);
});

describe('An error', () => {
  test('of a listener is uncaught, and the next message is delivered', async () => {
    const { port, server } = await guarded({ messages: { limiter: few(10) } });
    const got: string[] = [];
    server.on('connection', (socket) => {
      socket.on('message', (data) => {
        got.push(data.toString());
        throw new Error(`listener of ${data}`);
      });
    });
    const errors = await uncaught(async () => {
      const peer = await connected(port);
      for (const text of ['a', 'b']) peer.send(text);
      await caughtUp(peer);
    });
    expect(got).toEqual(['a', 'b']);
    expect(errors.map(({ message }) => message)).toEqual(['listener of a', 'listener of b']);
  });

  test('of a cost closes with 1011, is no offence, and affects no other connection', async () => {
    const cost = (data: unknown) => JSON.parse(String(data)).cost;
    const expulsions = new OrderbookRateLimiter({ interval: 60 });
    const errors: unknown[] = [];
    const { port, received, verdicts } = await guarded({
      messages: { limiter: few(3), cost },
      expulsions,
      onError: (error, { socket }) => errors.push([error, socket?.readyState]),
    });
    const good = await connected(port);
    for (const text of ['{', '{"cost":-1}', 'null']) {
      const bad = await connected(port);
      for (const sent of [text, '{"cost":3}']) bad.send(sent);
      expect(await closing(bad)).toEqual({ code: 1011, reason: 'internal error' });
    }
    good.send('{"cost":3}');
    await caughtUp(good);
    expect(received).toEqual(['{"cost":3}']);
    expect(errors).toEqual(Array(3).fill([expect.any(Error), 1]));
    const failed = verdicts.filter(({ reason }) => reason === 'error');
    expect(failed.map(({ did }) => did)).toEqual(['closed', 'closed', 'closed']);
    expect(expulsions.getStatistics().trackedPeers).toBe(0);
  });

  test('of a limiter closes with 1011, in a pause too', async () => {
    const limiter = few(1, { rateLimit: 20 });
    const open = limiter.open.bind(limiter);
    let calls = 0;
    limiter.open = (key) => {
      const peer = open(key);
      const check = () => {
        calls += 1;
        if (calls === 3) throw new Error('third');
        return peer.check();
      };
      return { key, check, peek: (cost) => peer.peek(cost) };
    };
    const { port, received } = await guarded({
      messages: { limiter },
      onDelay: 'pause',
      onError: () => {},
    });
    const peer = await connected(port);
    for (const text of ['a', 'b']) peer.send(text);
    expect((await closing(peer)).code).toBe(1011);
    expect(received).toEqual(['a']);
  });

  test('of onVerdict is passed to onError and changes nothing else', async () => {
    const errors: unknown[] = [];
    const { port, received } = await guarded({
      messages: { limiter: few(1) },
      onVerdict: () => {
        throw new Error('verdict');
      },
      onError: (error) => errors.push(error),
    });
    const peer = await connected(port);
    for (const text of ['a', 'b']) peer.send(text);
    await caughtUp(peer);
    expect(received).toEqual(['a']);
    expect(errors).toEqual(Array(4).fill(new Error('verdict')));
  });

  test('of the user’s functions does not end the process, but is a warning by default', () => {
    const script = `
      import { RateLimiter } from 'relay-limiter';
      import { guardWebSocketServer } from 'relay-limiter/ws';
      import { WebSocket, WebSocketServer } from 'ws';
      const warnings = [];
      process.on('warning', ({ message }) => warnings.push(message));
      const fail = (message) => () => { throw new Error(message); };
      const codes = [];
      for (const options of [
        { messages: { limiter: new RateLimiter(), cost: fail('cost') } },
        { messages: { limiter: new RateLimiter(), key: fail('key') } },
        { onVerdict: fail('verdict') },
        { onVerdict: fail('verdict'), onError: fail('error') },
      ]) {
        const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
        guardWebSocketServer(server, options);
        server.on('connection', (socket) => socket.on('message', () => socket.close(1000)));
        await new Promise((done) => server.on('listening', done));
        const peer = new WebSocket('ws://127.0.0.1:' + server.address().port);
        peer.on('open', () => peer.send('x'));
        codes.push(await new Promise((done) => peer.on('close', done)));
        server.close();
      }
      console.log(JSON.stringify({ codes, warnings }));`;
    const { codes, warnings } = runJson(script) as { codes: number[]; warnings: string[] };
    expect(codes).toEqual([1011, 1011, 1000, 1000]);
    expect(new Set(warnings)).toEqual(new Set(['cost', 'key', 'verdict', 'error']));
  });

  test('of an invalid frame does not end a process without a listener of errors', async () => {
    const { port, guard, server } = await guarded({});
    const peer = await connected(port);
    const socket = (peer as unknown as { _socket: { write(bytes: Buffer): void } })._socket;
    socket.write(Buffer.from([0xff, 0xff, 0xff, 0xff]));
    expect((await closing(peer)).code).toBe(1002);
    await until(() => guard.connections === 0 && server.clients.size === 0);
  });
});

test('onVerdict may expel a connection, and its message is not delivered then', async () => {
  const { port, received, guard } = await guarded({
    messages: { limiter: few(2) },
    onVerdict: ({ kind, socket, data }) => {
      if (kind === 'message' && String(data) === 'no') guard.expel(socket as WebSocket, 'said no');
    },
  });
  const peer = await connected(port);
  for (const text of ['a', 'no', 'b']) peer.send(text);
  expect(await closing(peer)).toEqual({ code: 1008, reason: 'said no' });
  expect(received).toEqual(['a']);
});

test('a peer that does not answer the close is terminated', async () => {
  const { port, guard, server } = await guarded({ closeGraceSeconds: 0.05 });
  const peer = await connected(port);
  peer.pause();
  const [socket] = server.clients as Set<WebSocket>;
  // ws itself would destroy the connection after 30 seconds, but not by this method.
  const terminate = vi.spyOn(socket as WebSocket, 'terminate');
  guard.expel(socket as WebSocket);
  await once(socket as WebSocket, 'close');
  expect(terminate).toHaveBeenCalledOnce();
  expect(guard.connections).toBe(0);
});

test('a reason that is too long for a close frame is cut between characters', async () => {
  const { port, guard, server } = await guarded({});
  // A byte order mark is a character like any other.
  for (const [begin, kept] of [
    ['', 61],
    ['\ufeffx', 59],
  ] as const) {
    const peer = await connected(port);
    const [socket] = [...server.clients].slice(-1);
    guard.expel(socket as WebSocket, begin + 'é'.repeat(100));
    expect((await closing(peer)).reason).toBe(begin + 'é'.repeat(kept));
  }
});

test('the key of a connection is connectionKey of its WebSocket', async () => {
  const limiter = few(2);
  const { port, server, verdicts } = await guarded({ messages: { limiter } });
  const peer = await connected(port);
  for (const text of ['a', 'b', 'c']) peer.send(text);
  await caughtUp(peer);
  const [socket] = server.clients;
  const key = connectionKey(socket as WebSocket);
  // One of the violations is the ping's.
  expect(await limiter.getViolationCount(key)).toBe(2);
  expect(new Set(verdicts.map((verdict) => verdict.key))).toEqual(new Set([key]));
});

function tracked(
  limiter: RateLimiter | OrderbookRateLimiter | DirectConnectionRateLimiter,
): number {
  if ('getStats' in limiter) return limiter.getStats().trackedPeers;
  const statistics = limiter.getStatistics();
  return 'trackedPeers' in statistics ? statistics.trackedPeers : statistics.trackedConnections;
}
