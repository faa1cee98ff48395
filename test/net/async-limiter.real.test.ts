// Limiters of lines and of connections that answer by promises, on real sockets. Each answer comes when the test gives it.

import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import {
  type ConnectionOptions,
  connect as connectTls,
  createServer as createTlsServer,
} from 'node:tls';
import { afterEach, describe, expect, test } from 'vitest';
import { slowLimiter } from '../support/slow-limiter.js';
import { until } from '../support/sockets.js';
import { allOf, client, connected, guarded, stopAll } from './support.js';

afterEach(stopAll);

describe('While a limiter checks a line, a guard', () => {
  test('keeps the further ones in order', async () => {
    const limiter = slowLimiter();
    const { port, lines, guard } = await guarded({ messages: { limiter } });
    (await connected(port)).end('a\nb\nc\n');
    for (const [n, action] of (['allow', 'delay', 'allow'] as const).entries()) {
      await until(() => limiter.asked === n + 1);
      await limiter.answer(action, 1);
    }
    await until(() => guard.connections === 0);
    expect([lines, limiter.asked]).toEqual([['a', 'c'], 3]);
  });

  test.each([false, true])(
    'keeps the last one, which has no end, with allowHalfOpen: %s',
    async (allowHalfOpen) => {
      const limiter = slowLimiter();
      const server = createServer({ allowHalfOpen });
      const { port, lines, sockets } = await guarded({ messages: { limiter } }, server);
      const peer = await connected(port);
      peer.end('a');
      await until(() => limiter.asked === 1 && sockets[0]?.readableEnded === true);
      await new Promise(setImmediate);
      const [socket] = sockets as [Socket];
      expect(socket.destroyed).toBe(false);
      await limiter.answer('allow');
      expect(lines).toEqual(['a']);
      if (allowHalfOpen) socket.end('bye');
      expect(await allOf(peer)).toBe(allowHalfOpen ? 'bye' : '');
      expect(socket.allowHalfOpen).toBe(allowHalfOpen);
    },
  );

  test('delivers it and its last line when the guard is closed', async () => {
    const limiter = slowLimiter();
    const { port, lines, sockets, guard } = await guarded({ messages: { limiter } });
    const peer = await connected(port);
    peer.end('a');
    await until(() => limiter.asked === 1 && sockets[0]?.readableEnded === true);
    guard.close();
    expect(lines).toEqual(['a']);
    await allOf(peer);
    await limiter.answer('allow');
    expect(lines).toEqual(['a']);
  });

  test('returns the bytes behind it to the stream when the guard is closed', async () => {
    const limiter = slowLimiter();
    const { port, lines, sockets, guard } = await guarded({ messages: { limiter } });
    (await connected(port)).write('a\nb\n');
    await until(() => limiter.asked === 1);
    guard.close();
    const [chunk] = await once(sockets[0] as Socket, 'data');
    expect([lines, String(chunk)]).toEqual([['a'], 'b\n']);
  });
});

describe('While a limiter checks a connection, a guard of lines', () => {
  test('delays the event, and loses nothing that the peer sends', async () => {
    const limiter = slowLimiter();
    const { port, lines, sockets, verdicts } = await guarded({ connections: { limiter } });
    const peer = await connected(port);
    peer.write('a\n');
    await until(() => limiter.asked === 1);
    expect([sockets.length, verdicts.length]).toEqual([0, 0]);
    await limiter.answer('allow');
    expect(sockets).toHaveLength(1);
    peer.write('b\n');
    await until(() => lines.length === 2);
    expect(lines).toEqual(['a', 'b']);
  });

  test('sends the farewell to a refused one, and to one for which the limiter fails', async () => {
    const limiter = slowLimiter();
    const errors: unknown[] = [];
    const { port, sockets } = await guarded({
      connections: { limiter },
      onError: (error) => errors.push(error),
      farewell: ({ reason }) => reason,
    });
    const refused = client(port);
    await until(() => limiter.asked === 1);
    await limiter.answer('delay', 1);
    expect(await allOf(refused)).toBe('rate');
    const failed = client(port);
    await until(() => limiter.asked === 2);
    await limiter.fail(new Error('no store'));
    expect(await allOf(failed)).toBe('error');
    expect([sockets, errors]).toEqual([[], [new Error('no store')]]);
  });

  test('counts it, and forgets one that has closed before the answer', async () => {
    const limiter = slowLimiter();
    const connections = { limiter, maxPerAddress: 1 };
    const { port, sockets, verdicts, guard } = await guarded({ connections });
    const first = await connected(port);
    await until(() => limiter.asked === 1);
    await once(client(port), 'close');
    expect(verdicts).toMatchObject([{ did: 'refused', reason: 'concurrency' }]);
    first.resetAndDestroy();
    const second = async () => {
      const peer = client(port);
      const isAsked = until(() => limiter.asked === 2).then(() => true);
      return Promise.race([isAsked, once(peer, 'close').then(() => false)]);
    };
    while (!(await second()));
    await limiter.answer('allow');
    expect([sockets.length, guard.connections]).toEqual([0, 0]);
    await limiter.answer('allow');
    expect([sockets.length, guard.connections]).toEqual([1, 1]);
  });

  test('delays the handshake of TLS', async () => {
    const limiter = slowLimiter();
    // With a pre-shared key, no certificate is needed.
    const psk = Buffer.alloc(16, 1);
    const tls = { ciphers: 'PSK', maxVersion: 'TLSv1.2', minVersion: 'TLSv1.2' } as const;
    const server = createTlsServer({ ...tls, pskCallback: () => psk });
    const secured: string[] = [];
    server.on('secureConnection', (socket) => socket.on('line', (line) => secured.push(line)));
    const { port } = await guarded({ connections: { limiter } }, server);
    const pskCallback = () => ({ psk, identity: 'a' });
    const checkServerIdentity = () => undefined;
    const options = { ...tls, port, host: '127.0.0.1', pskCallback, checkServerIdentity };
    const refused = connectTls(options as ConnectionOptions).on('error', () => {});
    await until(() => limiter.asked === 1);
    await limiter.answer('delay', 1);
    await once(refused, 'close');
    const peer = connectTls(options as ConnectionOptions);
    await until(() => limiter.asked === 2);
    await limiter.answer('allow');
    peer.end('a\n');
    await until(() => secured.length === 1);
    expect(secured).toEqual(['a']);
  });

  test('lets it pass unguarded if the guard is closed', async () => {
    const limiter = slowLimiter();
    const { port, sockets, verdicts, guard } = await guarded({ connections: { limiter } });
    await connected(port);
    await until(() => limiter.asked === 1);
    guard.close();
    await limiter.answer('disconnect', 60);
    expect([sockets.length, verdicts.length]).toEqual([1, 0]);
    expect(sockets[0]?.listenerCount('error')).toBe(0);
  });
});
