// guardConnections with a limiter that answers by a promise. Each answer comes when the test gives it.

import { describe, expect, test } from 'vitest';
import { slowLimiter } from '../support/slow-limiter.js';
import { binary, IPV4_BODY } from './proxy-headers.js';
import { guarded, settled } from './virtual.js';

describe('While a limiter checks a connection, guardConnections', () => {
  test('passes it to no listener, and loses none of its bytes', async () => {
    const limiter = slowLimiter();
    const { connect, passed, received, verdicts } = guarded({ connections: { limiter } });
    const socket = connect('192.0.2.1');
    socket.receive('hello');
    await settled();
    expect([passed, verdicts]).toEqual([[], []]);
    await limiter.answer('allow');
    await settled();
    expect([passed, received.get(socket)]).toEqual([[socket], 'hello']);
    expect(verdicts).toMatchObject([{ did: 'passed', address: '192.0.2.1', socket }]);
  });

  test('refuses it if the answer is a refusal', async () => {
    const limiter = slowLimiter();
    const { connect, passed, verdicts, guard } = guarded({ connections: { limiter } });
    const socket = connect('192.0.2.1');
    await limiter.answer('delay', 7);
    expect([passed, socket.destroyed, guard.connections]).toEqual([[], true, 0]);
    expect(verdicts).toMatchObject([
      { did: 'refused', reason: 'rate', delaySeconds: 7, key: '192.0.2.1', address: '192.0.2.1' },
    ]);
  });

  test('counts it as open, and not any more when it is refused or has left', async () => {
    const limiter = slowLimiter();
    const connections = { limiter, maxPerServer: 1 };
    const { connect, verdicts, passed } = guarded({ connections });
    connect('192.0.2.1');
    connect('192.0.2.2');
    expect(verdicts).toMatchObject([{ did: 'refused', reason: 'concurrency' }]);
    await limiter.answer('delay', 1);
    const leaving = connect('192.0.2.3');
    expect(limiter.asked).toBe(2);
    leaving.destroy();
    await settled();
    const last = connect('192.0.2.4');
    await limiter.answer('allow');
    await limiter.answer('allow');
    expect([passed, limiter.asked]).toEqual([[last], 3]);
  });

  test('ignores the answer if the peer has left, with or without an error', async () => {
    const limiter = slowLimiter();
    const { connect, passed, verdicts } = guarded({ connections: { limiter } });
    const [reset, ended] = [connect('192.0.2.1'), connect('192.0.2.2')];
    reset.destroy(new Error('read ECONNRESET'));
    ended.push(null);
    ended.read(0);
    await settled();
    await limiter.answer('allow');
    await limiter.answer('allow');
    expect([passed, verdicts, ended.destroyed]).toEqual([[], [], true]);
  });

  test('passes it when the guard is closed, whatever the answer is', async () => {
    const limiter = slowLimiter();
    const { connect, guard, passed, verdicts } = guarded({ connections: { limiter } });
    const sockets = [connect('192.0.2.1'), connect('192.0.2.2')];
    guard.close();
    await limiter.answer('disconnect');
    await limiter.fail(new Error('away'));
    expect([passed, verdicts]).toEqual([sockets, []]);
  });

  test('refuses it if the limiter rejects, and reports the error', async () => {
    const limiter = slowLimiter();
    const { connect, passed, verdicts, errors } = guarded({ connections: { limiter } });
    connect('192.0.2.1');
    const error = new Error('no store');
    await limiter.fail(error);
    expect([passed, errors]).toEqual([[], [error]]);
    expect(verdicts).toMatchObject([{ did: 'refused', reason: 'error' }]);
  });

  test('has read its PROXY header, and checks the client that it names', async () => {
    const limiter = slowLimiter();
    const { connect, passed, received, verdicts } = guarded({
      connections: { limiter },
      proxyProtocol: { trustedProxies: '10.0.0.1' },
    });
    const socket = connect('10.0.0.1');
    socket.receive(Buffer.concat([binary(0x21, 0x11, IPV4_BODY), Buffer.from('hello')]));
    await settled();
    await settled();
    expect([limiter.asked, passed]).toEqual([1, []]);
    await limiter.answer('allow');
    await settled();
    expect(received.get(socket)).toBe('hello');
    expect(verdicts).toMatchObject([{ did: 'passed', proxy: '10.0.0.1' }]);
    expect(verdicts[0]?.address).not.toBe('10.0.0.1');
  });
});
