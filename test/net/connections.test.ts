// guardConnections: which connections pass, and how long one may do nothing, in virtual time.

import { createServer, Server, Socket } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { type ConnectionGuardOptions, guardConnections } from 'relay-limiter/net';
import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { codeOf, ENGINES, manualClock } from '../support/limiters.js';
import { few } from '../support/sockets.js';
import { connectRules, FakeSocket, guarded, settled } from './virtual.js';

vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] });
beforeEach(() => vi.clearAllTimers());
afterAll(() => void vi.useRealTimers());

/** Connects from these addresses, and returns the reasons of the verdicts. */
function reasons(options: ConnectionGuardOptions, ...addresses: string[]) {
  const { connect, verdicts } = guarded(options);
  for (const address of addresses) connect(address);
  return verdicts.map(({ reason = 'passed' }) => reason);
}

describe('guardConnections', () => {
  test('accepts servers of node:net and those that inherit from them', () => {
    for (const server of [{}, null, undefined, new Socket(), Server]) {
      expect(codeOf(() => guardConnections(server as never))).toBe('ERR_LIMITER_OPTION');
    }
  });

  test.each([
    ['an unknown option', { limits: {} }],
    ['a limit of no connection', { connections: { maxPerAddress: 0 } }],
    ['a fraction of a connection', { connections: { maxPerNetwork: 1.5 } }],
    ['a negative limit', { connections: { maxPerServer: -1 } }],
    ['a network of no bits', { connections: { network: { ipv4Subnet: 0 } } }],
    ['a RuleLimiter in connections', { connections: { limiter: connectRules() } }],
    ['another limiter as limiter', { limiter: new RateLimiter() }],
    ['no deadline at all', { idleSeconds: 0 }],
    ['a deadline that is no number', { handshakeSeconds: '10' }],
    ['a deadline above that of a timer', { firstByteSeconds: 2 ** 31 }],
    ['a PROXY protocol of nobody', { proxyProtocol: {} }],
    ['a PROXY protocol of a host name', { proxyProtocol: { trustedProxies: 'proxy.example' } }],
    ['no time for a header', { proxyProtocol: { trustedProxies: 'loopback', headerSeconds: 0 } }],
    ['no pending header', { proxyProtocol: { trustedProxies: 'loopback', maxPending: 0 } }],
  ])('refuses %s', (_, options) => {
    const server = createServer();
    expect(codeOf(() => guardConnections(server, options as never))).toBe('ERR_LIMITER_OPTION');
    // An invalid call leaves no guard behind.
    guardConnections(server).close();
  });

  test('guards a server once at a time', () => {
    const server = createServer();
    const guard = guardConnections(server);
    expect(codeOf(() => guardConnections(server))).toBe('ERR_LIMITER_OPTION');
    guard.close();
    guardConnections(server).close();
    expect(Object.hasOwn(server, 'emit')).toBe(false);
  });

  test('passes other events, with their results and arguments', () => {
    const { server } = guarded({});
    const seen: unknown[] = [];
    server.on('drop', (...all) => seen.push(all));
    expect(server.emit('drop', { localPort: 1 } as never)).toBe(true);
    expect(server.emit('listening')).toBe(false);
    expect(seen).toEqual([[{ localPort: 1 }]]);
  });
});

describe.each(ENGINES)('A guard of connections on the %s engine', (engine) => {
  const A = '192.0.2.1';
  const B = '192.0.2.2';
  const C = '203.0.113.3';
  const clock = manualClock();

  test.each([
    ['a RateLimiter', few(2, { engine }), [A, A, A, B], ['passed', 'passed', 'rate', 'passed']],
    [
      'an OrderbookRateLimiter',
      new OrderbookRateLimiter({ interval: 10, engine, clock }),
      [A, A, B],
      ['passed', 'rate', 'passed'],
    ],
    [
      'a DirectConnectionRateLimiter',
      new DirectConnectionRateLimiter({ messageRatePerSec: 1, messageBurst: 1, engine, clock }),
      [A, A, B],
      ['passed', 'rate', 'passed'],
    ],
  ])('limits how often an address connects with %s', (_, limiter, addresses, expected) => {
    expect(reasons({ connections: { limiter } }, ...addresses)).toEqual(expected);
  });

  test('asks a RuleLimiter with the address, its networks and the server', () => {
    const { connect, verdicts } = guarded({ limiter: connectRules(engine) });
    for (const address of [A, A, A, A, B, B, C, C]) connect(address);
    expect(verdicts.map(({ reason, rule, scope }) => [reason, rule, scope])).toEqual([
      [undefined, null, null],
      [undefined, null, null],
      ['rate', 'connects', 'address'],
      // The refusal that begins the ban.
      ['ban', 'connects', 'address'],
      [undefined, null, null],
      ['rate', 'network', 'network'],
      [undefined, null, null],
      ['rate', 'everybody', 'server'],
    ]);
  });

  test('heeds the lists and the bans of a RuleLimiter', () => {
    const limiter = connectRules(engine);
    limiter.ban('address', B, 60);
    const { connect, verdicts, passed } = guarded({ limiter });
    for (const address of ['198.51.100.7', B, ...Array(9).fill('192.0.2.99')]) connect(address);
    expect(passed).toHaveLength(9);
    expect(verdicts[0]).toMatchObject({ did: 'refused', reason: 'denied', delaySeconds: Infinity });
    expect(verdicts[1]).toMatchObject({ did: 'refused', reason: 'ban', delaySeconds: 60 });
  });

  test('refuses a banned address, and counts those that it expels', () => {
    const expulsions = new OrderbookRateLimiter({
      interval: 60,
      violationBanThreshold: 0,
      engine,
      clock,
    });
    const { connect, guard, verdicts } = guarded({ expulsions });
    const [first, second] = [connect(A), connect(A)] as const;
    expect([guard.expel(first), guard.expel(second), guard.expel(second)]).toEqual([
      true,
      true,
      false,
    ]);
    expect([first.destroyed, second.destroyed]).toEqual([true, true]);
    connect(A);
    connect(B);
    expect(verdicts.slice(2).map(({ reason }) => reason)).toEqual(['ban', undefined]);
  });
});

describe('A guard of connections', () => {
  test.each([
    ['an address', { maxPerAddress: 2 }, ['192.0.2.1', '192.0.2.1'], '192.0.2.1', '192.0.2.2'],
    ['a network', { maxPerNetwork: 2 }, ['192.0.2.1', '192.0.2.2'], '192.0.2.3', '192.0.3.1'],
    [
      'an IPv6 network',
      { maxPerNetwork: 2 },
      ['2001:db8::1', '2001:db8:0:1::1'],
      '2001:db8:0:2::1',
      '2001:db8:1::1',
    ],
    [
      'a network of another size',
      { maxPerNetwork: 2, network: { ipv4Subnet: 16 } },
      ['192.0.2.1', '192.0.3.2'],
      '192.0.4.1',
      '192.1.2.1',
    ],
  ])('bounds the open connections of %s', async (_, connections, open, above, other) => {
    const { connect, verdicts, passed, guard } = guarded({ connections });
    const [first] = open.map((address) => connect(address));
    const refused = connect(above);
    expect(refused.destroyed).toBe(true);
    expect(verdicts.at(-1)).toMatchObject({
      did: 'refused',
      reason: 'concurrency',
      socket: undefined,
    });
    connect(other);
    expect(passed).toHaveLength(3);
    first?.destroy();
    await settled();
    connect(above);
    expect(passed).toHaveLength(4);
    expect(guard.connections).toBe(3);
  });

  test('bounds the open connections of the server', async () => {
    const options = { connections: { maxPerServer: 2 } };
    expect(reasons(options, '192.0.2.1', '203.0.113.1', '2001:db8::1')).toEqual([
      'passed',
      'passed',
      'concurrency',
    ]);
  });

  test('charges no limiter for a connection that is one too many', () => {
    const limiter = new RateLimiter({ clock: manualClock() });
    const options = { limiter: connectRules(), connections: { limiter, maxPerServer: 1 } };
    expect(reasons(options, '192.0.2.1', '192.0.2.2')).toEqual(['passed', 'concurrency']);
    expect(options.limiter.getStats().scopes['address']?.peers).toBe(1);
    expect(limiter.getStats().trackedPeers).toBe(1);
  });

  test('limits nobody in the place of a connection without an address', () => {
    const options = {
      limiter: connectRules(),
      connections: { maxPerAddress: 1, maxPerNetwork: 1 },
    };
    const { connect, passed } = guarded(options);
    for (let n = 0; n < 4; n += 1) connect(undefined);
    expect(passed).toHaveLength(4);
    // The rule of the whole server counts it all the same.
    connect(undefined);
    expect(passed).toHaveLength(4);
  });

  test('refuses a connection if a limiter throws, and reports the error', () => {
    const limiter = new RateLimiter({ clock: () => Number.NaN });
    const { connect, verdicts, errors } = guarded({ connections: { limiter } });
    expect(connect('192.0.2.1').destroyed).toBe(true);
    expect(verdicts).toMatchObject([{ did: 'refused', reason: 'error', address: '192.0.2.1' }]);
    expect(errors).toMatchObject([{ code: 'ERR_LIMITER_CLOCK' }]);
  });

  test('does not pass a connection that onVerdict destroys, and survives what onVerdict throws', () => {
    const { connect, passed, errors } = guarded({
      onVerdict: ({ socket }) => {
        socket?.destroy();
        throw new Error('no');
      },
    });
    connect('192.0.2.1');
    expect(passed).toEqual([]);
    expect(errors).toMatchObject([{ message: 'no' }]);
  });

  test('reads nothing of a refused connection', () => {
    const { connect } = guarded({ connections: { limiter: few(1) } });
    connect('192.0.2.1');
    const refused = connect('192.0.2.1');
    refused.receive('GET');
    expect(refused.readableFlowing).toBe(null);
    expect(refused.eventNames()).toEqual(new Socket().on('error', () => {}).eventNames());
  });

  test('leaves nothing behind when its connections have closed', async () => {
    const { connect, guard } = guarded({
      connections: { maxPerAddress: 9, maxPerNetwork: 9, maxPerServer: 9 },
      firstByteSeconds: 10,
      idleSeconds: 10,
    });
    for (let round = 0; round < 20; round += 1) {
      const sockets = Array.from({ length: 9 }, () => connect('192.0.2.1'));
      expect(guard.connections).toBe(9);
      for (const socket of sockets) socket.destroy();
      await settled();
      expect(guard.connections).toBe(0);
    }
    expect(vi.getTimerCount()).toBe(0);
  });

  test('limits nothing after it has been closed', () => {
    const { server, connect, passed, guard } = guarded({
      connections: { maxPerServer: 1 },
      idleSeconds: 1,
    });
    connect('192.0.2.1');
    guard.close();
    expect(Object.hasOwn(server, 'emit')).toBe(false);
    connect('192.0.2.1');
    expect(passed).toHaveLength(2);
    vi.advanceTimersByTime(10_000);
    expect(passed.map(({ destroyed }) => destroyed)).toEqual([false, false]);
  });
});

describe('A deadline', () => {
  const seconds = (count: number) => vi.advanceTimersByTime(count * 1000);

  test('for the first byte closes a silent connection, which is an offence', () => {
    const expulsions = new OrderbookRateLimiter({ interval: 60, violationBanThreshold: 0 });
    const { connect, verdicts, guard } = guarded({ firstByteSeconds: 10, expulsions });
    const [silent, other] = [connect('192.0.2.1'), connect('192.0.2.2')] as const;
    seconds(9);
    other.receive('x');
    expect(silent.destroyed).toBe(false);
    seconds(1);
    expect([silent.destroyed, other.destroyed]).toEqual([true, false]);
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'silence', socket: silent });
    expect(guard.connections).toBe(1);
    connect('192.0.2.1');
    expect(verdicts.at(-1)).toMatchObject({ did: 'refused', reason: 'ban' });
  });

  test('for idle connections begins anew with each byte, and is no offence', () => {
    const expulsions = new OrderbookRateLimiter({ interval: 60, violationBanThreshold: 0 });
    const { connect, verdicts } = guarded({ idleSeconds: 60, expulsions });
    const socket = connect('192.0.2.1');
    for (let minute = 0; minute < 5; minute += 1) {
      seconds(59);
      socket.receive('x');
      expect(socket.destroyed).toBe(false);
    }
    seconds(59);
    expect(socket.destroyed).toBe(false);
    // A quarter of the time more at most.
    seconds(16);
    expect(socket.destroyed).toBe(true);
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'idle' });
    expect(vi.getTimerCount()).toBe(0);
    connect('192.0.2.1');
    expect(verdicts.at(-1)).toMatchObject({ did: 'passed' });
  });

  test('for a TLS handshake applies to servers with TLS, ten seconds by default', () => {
    const { connect, verdicts } = guarded({}, new TlsServer());
    const plain = guarded({}).connect('192.0.2.1');
    const socket = connect('192.0.2.1');
    socket.receive('x');
    seconds(9.9);
    expect(socket.destroyed).toBe(false);
    seconds(0.1);
    expect([socket.destroyed, plain.destroyed]).toEqual([true, false]);
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'handshake' });
  });

  test('for a TLS handshake is over after it', () => {
    const { connect, server } = guarded({ handshakeSeconds: 10 }, new TlsServer());
    const [done, pending] = [connect('192.0.2.1'), connect('192.0.2.1')] as const;
    const secure = Object.assign(new FakeSocket('192.0.2.1'), { _parent: done });
    server.emit('secureConnection', secure);
    seconds(10);
    expect([done.destroyed, pending.destroyed]).toEqual([false, true]);
  });

  test('of Infinity is none', () => {
    const never = { handshakeSeconds: Infinity, firstByteSeconds: Infinity, idleSeconds: Infinity };
    guarded(never, new TlsServer()).connect('192.0.2.1');
    expect(vi.getTimerCount()).toBe(0);
  });
});
