// guardConnections behind proxies that send PROXY headers, in virtual time.

import { createServer, type Socket } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import { guardConnections, guardLineServer } from 'relay-limiter/net';
import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { few } from '../support/sockets.js';
import { INVALID, text, VALID } from './proxy-headers.js';
import { connectRules, FakeSocket, guarded, settled } from './virtual.js';

vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] });
beforeEach(() => vi.clearAllTimers());
afterAll(() => void vi.useRealTimers());

describe('The PROXY protocol', () => {
  const PROXY = '10.0.0.1';
  const proxyProtocol = { trustedProxies: '10.0.0.0/8' };
  const HEADER = text('PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n');
  const field = ({ remoteAddress, remotePort, remoteFamily }: Socket) => ({
    remoteAddress,
    remotePort,
    remoteFamily,
  });

  test.each(VALID)('gives the socket the client of %s', async (_, header, client) => {
    const { connect, passed, received, verdicts, guard } = guarded({ proxyProtocol });
    const socket = connect(PROXY);
    const before = field(socket);
    expect(guard.pending).toBe(1);
    expect(passed).toEqual([]);
    socket.receive(Buffer.concat([header, text('hello')]));
    await settled();
    expect(passed).toEqual([socket]);
    expect(field(socket)).toEqual(client ?? before);
    expect(received.get(socket)).toBe('hello');
    expect(guard.pending).toBe(0);
    expect(verdicts).toMatchObject([
      { did: 'passed', proxy: PROXY, address: socket.remoteAddress },
    ]);
    expect(vi.getTimerCount()).toBe(0);
  });

  test.each(VALID.filter(([, header]) => header.length < 1000))(
    'reads %s byte by byte',
    async (_, header, client) => {
      const { connect, passed, received } = guarded({ proxyProtocol });
      const socket = connect(PROXY);
      const before = field(socket);
      const bytes = Buffer.concat([header, text('hello')]);
      for (const [n, byte] of bytes.entries()) {
        socket.receive(Buffer.of(byte));
        await settled();
        expect(passed).toHaveLength(n >= header.length - 1 ? 1 : 0);
      }
      expect(field(socket)).toEqual(client ?? before);
      expect(received.get(socket)).toBe('hello');
    },
  );

  test('leaves bytes and an end that come with the header or later to the server', async () => {
    const { connect, received } = guarded({ proxyProtocol });
    const together = connect(PROXY);
    together.receive(Buffer.concat([HEADER, text('a')]));
    together.push(null);
    const alone = connect(PROXY);
    alone.receive(HEADER);
    alone.push(null);
    const later = connect(PROXY);
    later.receive(HEADER);
    await settled();
    later.receive('b');
    later.receive('c');
    later.push(null);
    await settled();
    expect([together, alone, later].map((socket) => received.get(socket))).toEqual([
      'a|end',
      '|end',
      'bc|end',
    ]);
  });

  test('leaves a socket paused that a listener of the server pauses', async () => {
    const { server, connect, received } = guarded({ proxyProtocol });
    server.on('connection', (socket: Socket) => socket.pause());
    const socket = connect(PROXY);
    socket.receive(Buffer.concat([HEADER, text('a')]));
    await settled();
    expect(received.get(socket)).toBe('');
    socket.resume();
    await settled();
    expect(received.get(socket)).toBe('a');
  });

  test('does not resume a socket without a listener of data', async () => {
    const server = createServer();
    guardConnections(server, { proxyProtocol });
    const socket = new FakeSocket(PROXY);
    server.emit('connection', socket);
    socket.receive(Buffer.concat([HEADER, text('a')]));
    await settled();
    expect(socket.readableFlowing).toBe(null);
    expect(socket.read()?.toString()).toBe('a');
    expect(socket.eventNames()).not.toContain('readable');
  });

  test.each(INVALID)('closes the connection of a proxy with %s', async (_, header) => {
    const { connect, passed, verdicts, guard } = guarded({ proxyProtocol });
    const socket = connect(PROXY);
    socket.receive(header);
    await settled();
    expect(socket.destroyed).toBe(true);
    expect(passed).toEqual([]);
    expect(guard.pending).toBe(0);
    expect(verdicts).toMatchObject([{ did: 'refused', reason: 'proxy', proxy: PROXY }]);
  });

  test('closes the connection of a proxy that cuts its header', async () => {
    for (const [, header] of VALID) {
      const { connect, passed, verdicts } = guarded({ proxyProtocol });
      for (const length of [0, 1, header.length - 1]) {
        const socket = connect(PROXY);
        if (length > 0) socket.receive(header.subarray(0, length));
        socket.push(null);
        await settled();
        expect(socket.destroyed).toBe(true);
      }
      expect(passed).toEqual([]);
      expect(verdicts.map(({ reason }) => reason)).toEqual(['proxy', 'proxy', 'proxy']);
    }
  });

  test('closes the connection of a proxy without a header in time, however slow it is', async () => {
    const { connect, passed, verdicts } = guarded({ proxyProtocol });
    const [silent, slow] = [connect(PROXY), connect(PROXY)] as const;
    for (let second = 0; second < 5; second += 1) {
      slow.receive(HEADER.subarray(second, second + 1));
      await settled();
      expect([silent.destroyed, slow.destroyed]).toEqual([false, false]);
      vi.advanceTimersByTime(1000);
    }
    await settled();
    expect([silent.destroyed, slow.destroyed]).toEqual([true, true]);
    expect(passed).toEqual([]);
    expect(verdicts.map(({ reason }) => reason)).toEqual(['proxy', 'proxy']);
  });

  test('takes no header from other addresses', () => {
    const { connect, passed, received } = guarded({ proxyProtocol });
    const socket = connect('192.0.2.1');
    expect(passed).toEqual([socket]);
    socket.receive(HEADER);
    expect(socket.remoteAddress).toBe('192.0.2.1');
    return settled().then(() => expect(received.get(socket)).toBe(String(HEADER)));
  });

  test('counts the client of the header, not the proxy', async () => {
    const { connect, verdicts } = guarded({
      proxyProtocol,
      limiter: connectRules(),
      connections: { maxPerAddress: 1 },
    });
    const proxied = async (address: string) => {
      connect(PROXY).receive(text(`PROXY TCP4 ${address} 10.0.0.1 1 1\r\n`));
      await settled();
    };
    for (const address of ['192.0.2.1', '192.0.2.1', '192.0.2.2', '198.51.100.1']) {
      await proxied(address);
    }
    expect(verdicts.map(({ reason, address, key }) => [reason, address, key])).toMatchObject([
      [undefined, '192.0.2.1', expect.any(String)],
      ['concurrency', '192.0.2.1', '192.0.2.1'],
      [undefined, '192.0.2.2', expect.any(String)],
      ['denied', '198.51.100.1', '198.51.100.1'],
    ]);
  });

  test('does not limit the own connections of a proxy', async () => {
    const limiter = connectRules();
    const { connect, passed, guard } = guarded({
      proxyProtocol,
      limiter,
      connections: { limiter: few(1), maxPerAddress: 1, maxPerServer: 1 },
    });
    for (const [, header, client] of [...VALID, ...VALID]) {
      if (client === undefined) connect(PROXY).receive(header);
    }
    await settled();
    expect(passed.length).toBeGreaterThan(9);
    expect(guard.connections).toBe(passed.length);
    expect(limiter.getStats().scopes['address']?.peers).toBe(0);
  });

  test('bounds the connections that wait for a header', async () => {
    const { connect, verdicts, guard, passed } = guarded({
      proxyProtocol: { ...proxyProtocol, maxPending: 2 },
    });
    const [first] = [connect(PROXY), connect(PROXY)] as const;
    expect(connect(PROXY).destroyed).toBe(true);
    expect(verdicts).toMatchObject([{ did: 'refused', reason: 'pending', proxy: PROXY }]);
    first.receive(HEADER);
    await settled();
    expect(guard.pending).toBe(1);
    connect(PROXY).receive(HEADER);
    await settled();
    expect(passed).toHaveLength(2);
  });

  test('refuses a connection if trustedProxies throws', () => {
    const trustedProxies = () => {
      throw new Error('no');
    };
    const { connect, verdicts, errors } = guarded({ proxyProtocol: { trustedProxies } });
    expect(connect(PROXY).destroyed).toBe(true);
    expect(verdicts).toMatchObject([{ did: 'refused', reason: 'error' }]);
    expect(errors).toMatchObject([{ message: 'no' }]);
  });

  test('survives a reset of a connection that waits', async () => {
    const { connect, verdicts, guard } = guarded({ proxyProtocol });
    connect(PROXY).destroy(new Error('reset'));
    await settled();
    expect(guard.pending).toBe(0);
    expect(verdicts).toMatchObject([{ did: 'refused', reason: 'proxy', address: PROXY }]);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('ends with the guard, which destroys what waits for a header', async () => {
    const { connect, guard, passed } = guarded({ proxyProtocol });
    const [waiting, late] = [connect(PROXY), connect(PROXY)] as const;
    late.receive(HEADER);
    guard.close();
    await settled();
    expect([waiting.destroyed, late.destroyed]).toEqual([true, true]);
    expect(passed).toEqual([]);
    expect(vi.getTimerCount()).toBe(0);
    const plain = connect(PROXY);
    expect(passed).toEqual([plain]);
  });

  test('counts a first byte only after the header', async () => {
    const { connect } = guarded({ proxyProtocol, firstByteSeconds: 10 });
    const [silent, other] = [connect(PROXY), connect(PROXY)] as const;
    silent.receive(HEADER);
    other.receive(Buffer.concat([HEADER, text('a')]));
    await settled();
    vi.advanceTimersByTime(10_000);
    expect([silent.destroyed, other.destroyed]).toEqual([true, false]);
  });

  test('comes before a guard of lines, whichever was made first', async () => {
    for (const isFirst of [true, false]) {
      const server = createServer();
      const lines: string[] = [];
      const addresses: unknown[] = [];
      const guardLines = () =>
        guardLineServer(server, {
          connections: { limiter: few(1) },
          onVerdict: ({ kind, address }) => kind === 'connection' && addresses.push(address),
        });
      if (isFirst) guardLines();
      guardConnections(server, { proxyProtocol });
      if (!isFirst) guardLines();
      server.on('connection', (socket) => socket.on('line', (line) => lines.push(String(line))));
      for (const address of ['192.0.2.1', '192.0.2.2']) {
        const socket = new FakeSocket(PROXY);
        server.emit('connection', socket);
        socket.receive(text(`PROXY TCP4 ${address} 10.0.0.1 1 1\r\nhello\n`));
        await settled();
      }
      expect(addresses).toEqual(['192.0.2.1', '192.0.2.2']);
      expect(lines).toEqual(['hello', 'hello']);
    }
  });

  test('gives TLS sockets the client, also if the handshake fails', async () => {
    const { connect, server } = guarded({ proxyProtocol }, new TlsServer());
    for (const [event, ...before] of [['secureConnection'], ['tlsClientError', new Error('no')]]) {
      const socket = connect(PROXY);
      socket.receive(HEADER);
      await settled();
      const secure = Object.assign(new FakeSocket(PROXY), { _parent: socket });
      server.emit(event as string, ...before, secure);
      expect(field(secure)).toEqual(field(socket));
      expect(secure.remoteAddress).toBe('192.0.2.7');
    }
  });
});
