// A RuleLimiter in the guard of lines, with real sockets. What a SharedRuleLimiter returns by promises is awaited, so that
// rules.shared.real.test.ts can run this suite with one.

import { createServer, Socket } from 'node:net';
import { connect as connectTls, createServer as createTlsServer, TLSSocket } from 'node:tls';
import { OrderbookRateLimiter, RuleLimiter, type RuleLimiterOptions } from 'relay-limiter';
import type { LineGuardOptions } from 'relay-limiter/net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { ENGINES, manualClock } from '../support/limiters.js';
import { until } from '../support/sockets.js';
import { allOf, client, connected, guarded, stopAll, stopLater } from './support.js';

afterEach(stopAll);

const ADDRESS = '127.0.0.1';
const farewell: LineGuardOptions['farewell'] = ({ reason }) => `${reason}\n`;

/** A rule of so many tokens, and no more. */
const only = (scope: string, quota: number, fields: object = {}) => ({
  scope,
  quota,
  windowSeconds: 86_400,
  ...fields,
});

function limiterOf(limits: Partial<RuleLimiterOptions>): RuleLimiter {
  return new RuleLimiter({
    scopes: { connection: {}, address: { kind: 'address' }, account: {} },
    rules: {},
    clock: manualClock(),
    ...limits,
  });
}

describe.each(ENGINES)('A guard of lines with a RuleLimiter on the %s engine', (engine) => {
  test.each<[string, Partial<RuleLimiterOptions>, (limiter: RuleLimiter) => unknown]>([
    ['denied', { deny: { address: ['127.0.0.0/8'] } }, () => {}],
    ['ban', {}, (limiter) => limiter.ban('address', ADDRESS, 60)],
    [
      'rate',
      { rules: { all: only('address', 1) } },
      (limiter) => limiter.charge({ address: ADDRESS }),
    ],
  ])('refuses a connection with the reason %s', async (reason, limits, prepare) => {
    const limiter = limiterOf({ engine, ...limits });
    await prepare(limiter);
    const { port, verdicts, guard } = await guarded({ limiter, farewell });
    expect(await allOf(client(port))).toBe(`${reason}\n`);
    expect(verdicts).toMatchObject([
      { kind: 'connection', did: 'refused', reason, key: ADDRESS, scope: 'address' },
    ]);
    expect(guard.connections).toBe(0);
  });

  test('counts a line with its end, and drops lines above a rule', async () => {
    const limiter = limiterOf({
      engine,
      rules: {
        lines: only('connection', 3, { action: 'message' }),
        bytes: only('address', 20, { unit: 'bytes' }),
      },
    });
    const { port, lines, sockets, guard, verdicts } = await guarded({ limiter });
    const peer = await connected(port);
    peer.write('12\n\n1234\n12345\n');
    await until(() => verdicts.length === 5);
    expect(lines).toEqual(['12', '', '1234']);
    const [socket] = sockets as [(typeof sockets)[0]];
    const states = (await guard.peerOf(socket)?.peek(0, 'message'))?.rules ?? [];
    expect(states.map(({ rule, remaining }) => [rule, remaining])).toEqual([
      ['lines', 0],
      ['bytes', 11],
    ]);
    expect(verdicts.at(-1)).toMatchObject({ did: 'dropped', rule: 'lines', scope: 'connection' });
    peer.destroy();
    await until(() => guard.connections === 0);
    expect(guard.peerOf(socket)).toBeUndefined();
    expect(limiter.getStats().scopes).toMatchObject({
      connection: { peers: 0 },
      address: { peers: 1 },
    });
  });

  test('classifies each line once, and hands the value to its listeners', async () => {
    const limiter = limiterOf({
      engine,
      rules: { posts: only('account', 1, { action: 'post' }) },
    });
    const keys = vi.fn(() => ({ account: 'alice' }));
    const classify = vi.fn((line: unknown) => {
      const [action, ...words] = String(line).split(' ');
      return { action, value: words };
    });
    const calls: unknown[][] = [];
    const server = createServer((socket) => socket.on('line', (...args) => calls.push(args)));
    const { port, guard } = await guarded({ limiter, keys, classify }, server);
    const peer = await connected(port);
    peer.end('post a b\npost c\nread d\n');
    await until(() => calls.length > 0 && guard.connections === 0);
    expect(calls).toEqual([
      ['post a b', ['a', 'b']],
      ['read d', ['d']],
    ]);
    expect([keys.mock.calls.length, classify.mock.calls.length]).toEqual([1, 3]);
  });

  test('closes if classify returns nonsense, and charges nothing', async () => {
    const limiter = limiterOf({ engine, rules: { all: only('connection', 9) } });
    const onError = vi.fn();
    const classify = (() => 'post') as never;
    const { port, lines, verdicts } = await guarded({ limiter, classify, onError, farewell });
    const peer = await connected(port);
    peer.write('a\nb\n');
    expect(await allOf(peer)).toBe('error\n');
    expect([lines, verdicts.length]).toEqual([[], 2]);
    expect(onError.mock.calls).toMatchObject([[{ code: 'ERR_LIMITER_OPTION' }, { socket: {} }]]);
    expect(limiter.getStats().rules['all']?.checked).toBe(0);
  });

  test('destroys a connection if keys throws', async () => {
    const limiter = limiterOf({ engine });
    const keys = () => {
      throw new Error('a bug');
    };
    const onError = vi.fn();
    const { port, sockets, verdicts } = await guarded({ limiter, keys, onError });
    expect(await allOf(client(port))).toBe('');
    expect(sockets).toEqual([]);
    expect(onError).toHaveBeenCalledTimes(1);
    expect(verdicts).toMatchObject([{ did: 'refused', reason: 'error', address: ADDRESS }]);
    expect(limiter.getStats().outcomes.allow).toBe(0);
  });

  test('closes with a ban that a line begins, which is an offence', async () => {
    const expulsions = new OrderbookRateLimiter({ engine });
    const limiter = limiterOf({
      engine,
      rules: { lines: only('address', 1, { action: 'message' }) },
      bans: { address: { violations: 1, withinSeconds: 1, seconds: 60 } },
    });
    const { port, lines, verdicts } = await guarded({ limiter, expulsions, farewell });
    const peer = await connected(port);
    peer.write('a\nb\nc\n');
    expect(await allOf(peer)).toBe('disconnect\n');
    expect(lines).toEqual(['a']);
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', rule: 'lines', delaySeconds: 60 });
    expect(expulsions.getStatistics().trackedPeers).toBe(1);
    expect(await allOf(client(port))).toBe('ban\n');
  });

  test('closes for a line above the burst of a rule by bytes before its end has arrived', async () => {
    const limiter = limiterOf({
      engine,
      rules: { bytes: only('connection', 10, { unit: 'bytes' }) },
    });
    const { port, verdicts, lines } = await guarded({ limiter, farewell });
    const peer = await connected(port);
    peer.write('123456789\n');
    await until(() => lines.length === 1);
    peer.write('12345678901');
    expect(await allOf(peer)).toBe('length\n');
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'length', rule: null });
  });

  test('delivers the lines of one chunk in order as the rules allow them, with onDelay: pause', async () => {
    const rules = { lines: { scope: 'connection', rateLimit: 200, burstLimit: 2 } };
    const limiter = new RuleLimiter({ engine, scopes: { connection: {} }, rules });
    const { port, lines, guard } = await guarded({ limiter, onDelay: 'pause' });
    const sent = Array.from({ length: 20 }, (_, n) => String(n));
    (await connected(port)).end(sent.map((line) => `${line}\n`).join(''));
    await until(() => lines.length > 0 && guard.connections === 0);
    expect(lines).toEqual(sent);
    expect(limiter.getStats().scopes['connection']?.peers).toBe(0);
  });
});

// With a pre-shared key, no certificate is needed.
const psk = Buffer.alloc(16, 1);
const tls = { ciphers: 'PSK', maxVersion: 'TLSv1.2', minVersion: 'TLSv1.2' } as const;
const tlsServer = () => createTlsServer({ ...tls, pskCallback: () => psk });

/** A client of a TLS server. */
function tlsClient(port: number): TLSSocket {
  const pskCallback = () => ({ psk, identity: 'a' });
  const options = { ...tls, port, host: ADDRESS, pskCallback };
  const peer = connectTls({ ...options, checkServerIdentity: () => undefined });
  peer.on('error', () => {});
  stopLater(() => peer.destroy());
  return peer;
}

describe.each(ENGINES)('After the handshake of TLS, a RuleLimiter on the %s engine', (engine) => {
  const keys = () => ({ account: 'bob' });
  const connects = only('address', 2, { action: 'connect' });

  test.each<[string, Partial<RuleLimiterOptions>, (limiter: RuleLimiter) => unknown]>([
    ['denied', { deny: { account: ['bob'] } }, () => {}],
    ['ban', {}, (limiter) => limiter.ban('account', 'bob', 60)],
    [
      'rate',
      { rules: { connects, logins: only('account', 1, { action: 'connect' }) } },
      (limiter) => limiter.charge({ account: 'bob' }, 1, 'connect'),
    ],
  ])('refuses a key of the option keys with the reason %s', async (reason, limits, prepare) => {
    const limiter = limiterOf({ engine, rules: { connects }, ...limits });
    await prepare(limiter);
    const server = tlsServer();
    const secured = vi.fn();
    const { port, verdicts, guard } = await guarded({ limiter, keys, farewell }, server);
    server.on('secureConnection', secured);
    expect(await allOf(tlsClient(port))).toBe(`${reason}\n`);
    expect(verdicts).toMatchObject([{ did: 'refused', reason, key: 'bob', scope: 'account' }]);
    expect([guard.connections, secured.mock.calls.length]).toEqual([0, 0]);
    expect(guard.getStats().connections.accepted).toBe(0);
    // The handshake is paid.
    const { rules } = await limiter.peek({ address: ADDRESS }, 0, 'connect');
    expect(rules).toMatchObject([{ rule: 'connects', remaining: 1 }]);
  });

  test('charges a connection once, and passes its warning on', async () => {
    const limiter = limiterOf({
      engine,
      scopes: { address: { kind: 'address' }, account: {}, server: { single: true } },
      rules: {
        connects: { ...connects, warnBelow: 0.9 },
        logins: only('account', 5, { action: 'connect' }),
        all: only('server', 1, { action: 'connect' }),
      },
    });
    const { port, verdicts } = await guarded({ limiter, keys }, tlsServer());
    tlsClient(port);
    await until(() => verdicts.length === 1);
    expect(verdicts).toMatchObject([{ did: 'passed', warning: 'connects' }]);
    const { rules } = await limiter.peek({ address: ADDRESS, account: 'bob' }, 0, 'connect');
    expect(rules.map(({ rule, remaining }) => [rule, remaining])).toEqual([
      ['connects', 1],
      ['logins', 4],
      ['all', 0],
    ]);
  });

  test('warns without keys too', async () => {
    const limiter = limiterOf({ engine, rules: { connects: { ...connects, warnBelow: 0.9 } } });
    const { port, verdicts } = await guarded({ limiter }, tlsServer());
    tlsClient(port);
    await until(() => verdicts.length === 1);
    expect(verdicts).toMatchObject([{ did: 'passed', warning: 'connects' }]);
  });

  test('keeps what the handshake has paid if keys names an unknown scope', async () => {
    const limiter = limiterOf({ engine, rules: { connects } });
    const onError = vi.fn();
    const unknown = () => ({ nobody: 'a' });
    const { port, verdicts } = await guarded({ limiter, keys: unknown, onError }, tlsServer());
    tlsClient(port);
    await until(() => verdicts.length === 1);
    expect(verdicts).toMatchObject([{ did: 'refused', reason: 'error', address: ADDRESS }]);
    expect(onError.mock.calls).toMatchObject([[{ code: 'ERR_LIMITER_KEY' }, {}]]);
    const { rules } = await limiter.peek({ address: ADDRESS }, 0, 'connect');
    expect(rules).toMatchObject([{ remaining: 1 }]);
  });
});

test('A socket that is destroyed already takes no place', async () => {
  const server = createServer();
  const { guard, sockets } = await guarded({ connections: { maxPerServer: 1 } }, server);
  for (let n = 0; n < 3; n += 1) server.emit('connection', new Socket().destroy());
  expect([sockets.length, guard.connections]).toEqual([3, 0]);
  expect(guard.getStats().connections.accepted).toBe(0);
});

test('keys of a TLS server gets the stream after the handshake, and connects count by address', async () => {
  const server = tlsServer();
  const limiter = limiterOf({ rules: { connects: only('address', 1, { action: 'connect' }) } });
  const keys = vi.fn((socket: unknown) => ({ account: String(socket instanceof TLSSocket) }));
  const { port, guard } = await guarded({ limiter, keys }, server);
  const accounts: unknown[] = [];
  server.on('secureConnection', (socket) => accounts.push(guard.peerOf(socket)?.keys));
  tlsClient(port);
  await until(() => accounts.length === 1);
  expect(accounts).toMatchObject([{ account: 'true', address: ADDRESS }]);
  expect(await allOf(client(port))).toBe('');
  expect(keys).toHaveBeenCalledTimes(1);
});
