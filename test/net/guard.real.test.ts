import { once } from 'node:events';
import { createServer, Server, Socket } from 'node:net';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { connectionKey } from 'relay-limiter/address';
import { guardLineServer } from 'relay-limiter/net';
import { afterEach, describe, expect, test } from 'vitest';
import { codeOf, ENGINES, manualClock } from '../support/limiters.js';
import { few, tooEarly, until, watchedClock } from '../support/sockets.js';
import { uncaught } from '../support/uncaught.js';
import { allOf, client, connected, guarded, stopAll, stopLater } from './support.js';

afterEach(stopAll);

test.each(['drop', 'pause'] as const)(
  'a socket that the user destroys emits no more lines, with onDelay: %s',
  async (onDelay) => {
    const { port, sockets, guard, server } = await guarded({
      messages: { limiter: few(100) },
      onDelay,
    });
    const lines: string[] = [];
    server.on('connection', (socket) => {
      socket.on('line', (line) => {
        lines.push(line);
        if (lines.length === 3) socket.destroy();
      });
    });
    const peer = await connected(port);
    peer.end('line\n'.repeat(50));
    await until(() => lines.length > 0 && guard.connections === 0);
    expect(lines).toHaveLength(3);
    expect(sockets[0]?.destroyed).toBe(true);
  },
);

test('a socket that onVerdict destroys does not emit the line', async () => {
  const { port, lines, guard } = await guarded({
    messages: { limiter: few(100) },
    onVerdict: ({ kind, socket }) => {
      if (kind === 'message') socket?.destroy();
    },
  });
  const peer = await connected(port);
  peer.write('a\nb\n');
  await once(peer, 'close');
  await until(() => guard.connections === 0);
  expect(lines).toEqual([]);
});

test('a server has one line guard at a time', async () => {
  const server = createServer();
  const first = guardLineServer(server);
  expect(codeOf(() => guardLineServer(server))).toBe('ERR_LIMITER_OPTION');
  first.close();
  const { port, lines } = await guarded({}, server);
  const peer = await connected(port);
  peer.end('a\nb\n');
  await until(() => lines.includes('b'));
  expect(lines).toEqual(['a', 'b']);
});

test('a line above the burst of a rule by bytes closes before its end has arrived', async () => {
  const { port, verdicts, guard } = await guarded({
    messages: { limiter: few(10), cost: 'bytes' },
  });
  const peer = await connected(port);
  peer.write('123456789\n');
  await until(() => verdicts.length === 2);
  expect(verdicts.at(-1)).toMatchObject({ did: 'passed', data: '123456789' });
  peer.write('1234567890a');
  await until(() => verdicts.length === 3);
  expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'length' });
  peer.end();
  await until(() => guard.connections === 0);
});

describe.each(ENGINES)('A line limit on the %s engine', (engine) => {
  test('drops lines, with each of the three limiters', async () => {
    const clock = manualClock();
    const limiters = [
      new RateLimiter({ rateLimit: 1, burstLimit: 1, engine, clock }),
      new OrderbookRateLimiter({ interval: 10, engine, clock }),
      new DirectConnectionRateLimiter({ messageRatePerSec: 1, messageBurst: 1, engine, clock }),
    ];
    for (const limiter of limiters) {
      const { port, lines, verdicts } = await guarded({ messages: { limiter } });
      const peer = await connected(port);
      peer.end('a\nb\r\nc\n');
      await until(() => verdicts.length === 4);
      expect(lines).toEqual(['a']);
      expect(verdicts.slice(1).map(({ did, data }) => [did, data])).toEqual([
        ['passed', 'a'],
        ['dropped', 'b'],
        ['dropped', 'c'],
      ]);
    }
  });

  test('sends the farewell on DISCONNECT, which is an offence of the address', async () => {
    const limiter = few(1, { disconnectThreshold: 1, engine });
    const expulsions = new OrderbookRateLimiter({
      interval: 60,
      violationBanThreshold: 0,
      engine,
      clock: manualClock(),
    });
    const farewell = ({ reason }: { reason: string }) => `ERROR ${reason}\n`;
    const { port, lines, guard, verdicts } = await guarded({
      messages: { limiter },
      expulsions,
      farewell,
    });
    const peer = await connected(port);
    peer.write('a\nb\nc\n');
    expect(await allOf(peer)).toBe('ERROR disconnect\n');
    expect(verdicts.at(-1)).toMatchObject({ reason: 'disconnect', delaySeconds: 1000 });
    expect(lines).toEqual(['a']);
    expect(await allOf(client(port))).toBe('ERROR ban\n');
    await connected(port, { localAddress: '127.0.0.2' });
    await until(() => guard.connections === 1);
    expect(limiter.getStats().trackedPeers).toBe(0);
  });
});

describe('A connection', () => {
  test('above the rate is destroyed without a connection event', async () => {
    const limiter = few(2);
    const { port, sockets, verdicts } = await guarded({ connections: { limiter } });
    await connected(port);
    await connected(port);
    const third = client(port);
    await once(third, 'close');
    expect(sockets).toHaveLength(2);
    expect(verdicts.at(-1)).toMatchObject({
      kind: 'connection',
      did: 'refused',
      reason: 'rate',
      key: '127.0.0.1',
    });
  });

  test('that a RateLimiter disconnects is refused with its delay in the verdict', async () => {
    const limiter = few(1, { disconnectThreshold: 0 });
    const { port, verdicts } = await guarded({ connections: { limiter } });
    await connected(port);
    await once(client(port), 'close');
    expect(verdicts.at(-1)).toMatchObject({ action: 'disconnect', delaySeconds: 1000 });
  });

  test('above maxPerAddress is refused until another one closes', async () => {
    const { port, guard } = await guarded({
      connections: { maxPerAddress: 1 },
      farewell: 'busy\r\n',
    });
    const first = await connected(port);
    expect(await allOf(client(port))).toBe('busy\r\n');
    await connected(port, { localAddress: '127.0.0.2' });
    first.destroy();
    await until(() => guard.connections === 1);
    const next = await connected(port);
    next.write('a\n');
    await until(() => guard.connections === 2);
  });

  test('leaves nothing in the guard when it has closed', async () => {
    const limiter = new RateLimiter();
    const { port, guard } = await guarded({
      connections: { maxPerAddress: 30 },
      messages: [{ limiter }, { limiter, cost: 'bytes' }],
    });
    for (let round = 0; round < 10; round += 1) {
      const peers = await Promise.all(Array.from({ length: 20 }, () => connected(port)));
      for (const [n, peer] of peers.entries()) n % 2 === 0 ? peer.end('a\nb') : peer.destroy();
      await until(() => guard.connections === 0);
    }
    expect(limiter.getStats().trackedPeers).toBe(0);
  });
});

test('a connection of a TLS server is refused before the handshake, and has lines after it', async () => {
  // With a pre-shared key, no certificate is needed.
  const psk = Buffer.alloc(16, 1);
  const tls = { ciphers: 'PSK', maxVersion: 'TLSv1.2', minVersion: 'TLSv1.2' } as const;
  const server = createTlsServer({ ...tls, pskCallback: () => psk });
  const lines: string[] = [];
  server.on('secureConnection', (socket) => socket.on('line', (line) => lines.push(line)));
  const { port, verdicts } = await guarded(
    { connections: { maxPerAddress: 1 }, messages: { limiter: few(1) }, farewell: 'busy\r\n' },
    server,
  );
  const pskCallback = () => ({ psk, identity: 'a' });
  const peer = connectTls({
    ...tls,
    port,
    host: '127.0.0.1',
    pskCallback,
    checkServerIdentity: () => undefined,
  });
  stopLater(() => peer.destroy());
  peer.write('a\nb\n');
  await until(() => verdicts.length === 3);
  expect(lines).toEqual(['a']);
  expect(verdicts.map(({ did }) => did)).toEqual(['passed', 'passed', 'dropped']);
  // The farewell is not sent as plain text before the handshake.
  expect(await allOf(client(port))).toBe('');
  expect(verdicts.at(-1)?.did).toBe('refused');
});

describe('A guarded stream', () => {
  test('may arrive in pieces of single bytes, and its last line needs no end', async () => {
    const { port, lines, sockets } = await guarded({
      messages: { limiter: few(100), cost: 'bytes' },
    });
    const peer = await connected(port);
    await until(() => sockets.length === 1);
    const [socket] = sockets as [Socket];
    peer.setNoDelay();
    const bytes = Buffer.from('größe\r\n💧\nlast');
    // Each byte arrives separately: the next one is sent only after the server has read it.
    for (const [n, byte] of bytes.entries()) {
      peer.write(Buffer.of(byte));
      await until(() => socket.bytesRead === n + 1);
    }
    peer.end();
    await until(() => lines.length === 3);
    expect(lines).toEqual(['größe', '💧', 'last']);
  });

  test('is decoded by `encoding`, even if the user has called setEncoding', async () => {
    const latin1 = await guarded({ encoding: 'latin1' });
    (await connected(latin1.port)).end(Buffer.from([0xe9, 0x0a]));
    const buffer = await guarded({ encoding: 'buffer' });
    (await connected(buffer.port)).end(Buffer.from([0xff, 0x0a]));
    const server = createServer((socket) => socket.setEncoding('utf8'));
    const text = await guarded({}, server);
    (await connected(text.port)).end('é\n');
    await until(() => [latin1, buffer, text].every(({ lines }) => lines.length === 1));
    expect(latin1.lines).toEqual(['é']);
    expect(buffer.lines).toEqual([Buffer.from([0xff])]);
    expect(text.lines).toEqual(['é']);
  });

  test('is closed for a line that is too long, with or without its end', async () => {
    for (const sent of [`${'x'.repeat(101)}\n`, 'x'.repeat(5000)]) {
      const expulsions = new OrderbookRateLimiter({ interval: 60 });
      const { port, lines, verdicts } = await guarded({ maxLineBytes: 100, expulsions });
      const peer = await connected(port);
      peer.write(`${'y'.repeat(100)}\n`);
      peer.write(sent);
      await once(peer.resume(), 'close');
      expect(lines).toEqual(['y'.repeat(100)]);
      expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'length' });
      expect(expulsions.getStatistics().trackedPeers).toBe(1);
    }
  });

  test('that is half-open can still be written to after the peer’s end', async () => {
    const server = createServer({ allowHalfOpen: true });
    const { port } = await guarded({ messages: { limiter: few(5) } }, server);
    server.on('connection', (socket) => {
      socket.on('line', (line) => socket.write(`${line}!\n`));
      socket.on('end', () => setImmediate(() => socket.end('bye\n')));
    });
    const peer = await connected(port);
    peer.end('a\nb');
    expect(await allOf(peer)).toBe('a!\nb!\nbye\n');
  });

  test('is destroyed if the peer does not read its farewell', async () => {
    const { port, guard, sockets } = await guarded({ closeGraceSeconds: 0.05, farewell: 'bye\n' });
    const peer = await connected(port);
    peer.pause();
    await until(() => sockets.length === 1);
    const [socket] = sockets as [Socket];
    // More than the buffers of the operating system hold.
    socket.write(Buffer.alloc(32 << 20));
    expect(guard.expel(socket)).toBe(true);
    expect(guard.expel(socket)).toBe(false);
    await once(socket, 'close');
    expect(guard.connections).toBe(0);
  });
});

/** On a slow machine, a pause may last long. */
const PAUSING = { onDelay: 'pause', maxPauseSeconds: 3600 } as const;

describe('A pausing line guard', () => {
  test('emits all lines in order and no faster than the limit', async () => {
    const clock = watchedClock();
    const limiter = new RateLimiter({ rateLimit: 100, burstLimit: 5, clock });
    const { port, lines, server } = await guarded({ messages: { limiter }, ...PAUSING });
    const times: number[] = [];
    server.on('connection', (socket) => socket.on('line', () => times.push(clock.last)));
    const sent = Array.from({ length: 40 }, (_, n) => `line ${n}`);
    (await connected(port)).end(`${sent.join('\n')}\n`);
    await until(() => lines.length === 40);
    expect(lines).toEqual(sent);
    expect(tooEarly(times, 100, 5)).toEqual([]);
  });

  test('slows a flooder down by TCP while another peer is served', async () => {
    const line = 'x'.repeat(1023);
    const { port, lines, sockets } = await guarded({
      messages: { limiter: few(1, { rateLimit: 20 }), cost: (text) => Number(text === line) },
      ...PAUSING,
      onVerdict: () => {},
    });
    const flooder = await connected(port);
    flooder.write(`${line}\n`.repeat(16 << 10));
    await until(() => sockets[0]?.isPaused() === true);
    (await connected(port)).end(`${line}y\n`.repeat(16 << 10));
    await until(() => lines.length === 1 + (16 << 10));
    // A paused socket is not read: only the first chunks of 64 KB were read, of 16 MB in all.
    expect(sockets[0]?.bytesRead).toBeLessThan(1 << 20);
  });

  test('lets the user pause in the middle of a chunk', async () => {
    const { port, lines, server, sockets } = await guarded({});
    server.on('connection', (socket) => socket.on('line', () => socket.pause()));
    (await connected(port)).end('a\nb\nc\nd');
    for (const expected of ['a', 'ab', 'abc', 'abcd']) {
      await until(() => lines.join('') === expected);
      const [socket] = sockets as [Socket];
      expect(socket.isPaused()).toBe(true);
      // The line of a later connection arrives after any line that the first connection could still emit.
      (await connected(port)).end('!\n');
      await until(() => lines.includes('!'));
      lines.splice(lines.indexOf('!'), 1);
      expect(lines.join('')).toBe(expected);
      socket.resume();
    }
  });

  test('lets the user pause while a line is held', async () => {
    const clock = manualClock();
    const limiter = few(1, { rateLimit: 20, clock });
    const { port, lines, sockets } = await guarded({
      messages: { limiter, key: 'address' },
      ...PAUSING,
    });
    (await connected(port)).write('a\nb\nc\n');
    await until(() => sockets[0]?.isPaused() === true);
    sockets[0]?.pause();
    clock.now += 1;
    // This line passes only after the paused connection has left the queue.
    (await connected(port)).write('other\n');
    await until(() => lines.length === 2);
    expect(lines).toEqual(['a', 'other']);
    sockets[0]?.resume();
    for (const count of [3, 4]) {
      clock.now += 1;
      await until(() => lines.length === count);
    }
    expect(lines).toEqual(['a', 'other', 'b', 'c']);
  });

  test('sends the farewell for a pause that is too long, and keeps nothing of a closed socket', async () => {
    const limiter = few(1, { rateLimit: 5 });
    const { port, guard, lines } = await guarded({ messages: { limiter }, ...PAUSING });
    const peer = await connected(port);
    peer.write('a\nb\nc\nd\n');
    await until(() => lines.length === 1);
    peer.resetAndDestroy();
    await until(() => guard.connections === 0);
    expect(lines).toEqual(['a']);
    expect(limiter.getStats().trackedPeers).toBe(0);

    const long = await guarded({
      messages: { limiter: few(1) },
      onDelay: 'pause',
      farewell: ({ reason }) => reason,
    });
    const other = await connected(long.port);
    other.write('a\nb\n');
    expect(await allOf(other)).toBe('pause');
  });
});

describe('An error', () => {
  test('of a listener is uncaught, and the next line is emitted', async () => {
    const errors = await uncaught(async () => {
      const { port, lines, server } = await guarded({ messages: { limiter: few(5) } });
      server.on('connection', (socket) => {
        socket.on('line', () => {
          throw new Error('listener');
        });
      });
      (await connected(port)).end('1\n2\n');
      await until(() => lines.length === 2);
    });
    expect(errors).toHaveLength(2);
  });

  test('of a cost, a key, a limiter, onVerdict or farewell is passed to onError', async () => {
    const errors: string[] = [];
    const onError = (error: unknown, { socket }: { socket: Socket }) => {
      errors.push(`${(error as Error).message} ${socket instanceof Socket}`);
    };
    const fail = (message: string) => () => {
      throw new Error(message);
    };
    const expulsions = new OrderbookRateLimiter({ interval: 60 });
    const cost = await guarded({
      messages: { limiter: few(5), cost: fail('cost') },
      expulsions,
      onError,
      farewell: ({ reason }) => reason,
    });
    const peer = await connected(cost.port);
    peer.write('a\nb\n');
    expect(await allOf(peer)).toBe('error');
    expect(cost.lines).toEqual([]);
    expect(cost.verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'error' });
    expect(expulsions.getStatistics().trackedPeers).toBe(0);

    const key = await guarded({ messages: { limiter: few(5), key: fail('key') }, onError });
    await once(client(key.port), 'close');
    expect(key.sockets).toHaveLength(0);
    expect(key.verdicts).toMatchObject([{ kind: 'connection', did: 'closed', reason: 'error' }]);

    const limiter = Object.assign(few(5), { check: fail('limiter') });
    const refusing = await guarded({
      connections: { limiter },
      onError,
      farewell: fail('farewell'),
    });
    await once(client(refusing.port), 'close');
    expect(refusing.sockets).toHaveLength(0);
    expect(refusing.verdicts).toMatchObject([{ did: 'refused', reason: 'error' }]);

    const verdict = await guarded({ onVerdict: fail('verdict'), onError });
    (await connected(verdict.port)).end('a\n');
    await until(() => verdict.lines.length === 1);
    expect(errors).toEqual(
      ['cost', 'key', 'limiter', 'farewell', 'verdict', 'verdict'].map((what) => `${what} true`),
    );
  });
});

test('an empty line costs one byte, for its end', async () => {
  const { port, lines, verdicts } = await guarded({
    messages: { limiter: few(10), cost: 'bytes' },
  });
  (await connected(port)).end(`abc\n${'\n'.repeat(20)}`);
  await until(() => verdicts.length === 22);
  expect(lines).toHaveLength(1 + 6);
});

test('connections that share a bucket wait in turn, and none is closed because of another', async () => {
  const limiter = new RateLimiter({ rateLimit: 100, burstLimit: 5, disconnectThreshold: 60 });
  const { port, lines, verdicts } = await guarded({
    messages: { limiter, key: 'address' },
    ...PAUSING,
  });
  for (let n = 0; n < 10; n += 1) (await connected(port)).end('a\nb\nc\nd\ne\n');
  await until(() => lines.length === 50);
  expect(verdicts.filter(({ did }) => did === 'closed')).toEqual([]);
});

test('lines of one chunk that cannot pass in time close the connection, even after the peer’s end', async () => {
  const { port, guard, verdicts } = await guarded({
    messages: { limiter: new RateLimiter({ rateLimit: 10, burstLimit: 1 }) },
    onDelay: 'pause',
    maxPauseSeconds: 0.3,
    closeGraceSeconds: 0.1,
  });
  (await connected(port)).end('\n'.repeat(10_000));
  await until(() => verdicts.length > 0 && guard.connections === 0);
  expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'backlog' });
});

test('close() restores the server and its sockets', async () => {
  const { port, guard, server, sockets, lines } = await guarded({ messages: { limiter: few(1) } });
  const peer = await connected(port);
  peer.write('a\n');
  await until(() => lines.length === 1);
  guard.close();
  expect(Object.hasOwn(server, 'emit')).toBe(false);
  const [socket] = sockets as [Socket];
  expect(['pause', 'resume'].some((name) => Object.hasOwn(socket, name))).toBe(false);
  const data = once(socket, 'data');
  peer.write('b\n');
  expect(String(await data)).toBe('b\n');
  expect(lines).toEqual(['a']);
});

test.each(['buffers', 'text'])(
  'close() returns an incomplete line to the stream, as %s',
  async (kind) => {
    const { port, guard, sockets, lines } = await guarded({ messages: { limiter: few(1) } });
    const peer = await connected(port);
    peer.write('a\nhel');
    await until(() => lines.length === 1);
    const [socket] = sockets as [Socket];
    if (kind === 'text') socket.setEncoding('utf8');
    guard.close();
    let rest = '';
    socket.on('data', (chunk) => (rest += chunk));
    peer.write('lo\n');
    await until(() => rest.length >= 6);
    expect(rest).toBe('hello\n');
  },
);

test('close() during a pause returns the rest to the stream, each byte once', async () => {
  const limiter = few(1);
  const { port, guard, sockets, lines } = await guarded({ messages: { limiter }, ...PAUSING });
  const peer = await connected(port);
  peer.write('a\nb\r\nc\nd');
  await until(() => sockets[0]?.isPaused() === true);
  guard.close();
  const [socket] = sockets as [Socket];
  let rest = '';
  socket.on('data', (chunk) => (rest += chunk));
  peer.write('e\n');
  await until(() => rest.endsWith('e\n'));
  expect(lines).toEqual(['a', 'b']);
  expect(rest).toBe('c\nde\n');
});

test('close() by a listener returns the unsplit bytes to the stream', async () => {
  const { port, guard, sockets, lines } = await guarded({ messages: { limiter: few(9) } });
  const peer = await connected(port);
  await until(() => sockets.length === 1);
  const [socket] = sockets as [Socket];
  let rest = '';
  socket.once('line', () => {
    guard.close();
    socket.on('data', (chunk) => (rest += chunk));
  });
  peer.write('a\nb\nc');
  await until(() => rest.endsWith('c'));
  expect(lines).toEqual(['a']);
  expect(rest).toBe('b\nc');
});

test('the key of a connection is connectionKey of its socket', async () => {
  const limiter = few(1);
  const { port, sockets, verdicts } = await guarded({ messages: { limiter } });
  (await connected(port)).write('a\nb\n');
  await until(() => verdicts.length === 3);
  expect(await limiter.getViolationCount(connectionKey(sockets[0] as Socket))).toBe(1);
});

test('guardLineServer rejects invalid options', () => {
  const server = new Server();
  for (const options of [
    { maxLineBytes: 0 },
    { maxLineBytes: 2 ** 31 },
    { encoding: 'utf16le' },
    { farewell: 5 },
    { trustedProxies: 'loopback' },
    { messages: 5 },
    [],
  ]) {
    expect(codeOf(() => guardLineServer(server, options as object))).toBe('ERR_LIMITER_OPTION');
  }
  expect(codeOf(() => guardLineServer({} as Server))).toBe('ERR_LIMITER_OPTION');
});
