// A RuleLimiter in the guard of WebSockets: its options, the keys of connections, and the check before the handshake. Fake
// sockets in virtual time.

import type { IncomingMessage } from 'node:http';
import {
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter,
  type RuleLimiterOptions,
} from 'relay-limiter';
import { guardWebSocketServer, type WebSocketGuardOptions } from 'relay-limiter/ws';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { codeOf, ENGINES } from '../support/limiters.js';
import { few } from '../support/sockets.js';
import type { FakeSocket } from './virtual.js';
import { ADDRESS, guarded, only, SCOPES, withKeys } from './virtual-rules.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'hrtime'] }));
afterEach(() => void vi.useRealTimers());

describe('A guard gives a RuleLimiter', () => {
  test.each<[string, RuleLimiterOptions['scopes'], string | undefined, object]>([
    ['the address as it is', SCOPES, '2001:db8::5', { address: '2001:db8::5' }],
    ['a mapped address', SCOPES, '::ffff:192.0.2.1', { address: '::ffff:192.0.2.1' }],
    [
      'the key of the address in a text scope',
      { connection: {}, address: {} },
      '2001:db8::5',
      { address: '2001:db8::/64' },
    ],
    ['no address without one', SCOPES, '', {}],
    ['no address without one in a text scope', { connection: {}, address: {} }, '', {}],
  ])('%s', (_, scopes, address, keys) => {
    const { connect, peerOf } = guarded({ scopes });
    expect(peerOf(connect(address))?.keys).toEqual({ connection: expect.any(String), ...keys });
  });

  test('no keys of scopes that it does not have', () => {
    const { connect, peerOf } = guarded({ scopes: { server: { single: true } } });
    expect(peerOf(connect())?.keys).toEqual({});
  });

  test('the keys of the option keys, which it calls once for each connection', () => {
    const keys = vi.fn(({ headers }) => ({ account: headers['x-account'] }));
    const { connect, peerOf } = guarded({}, withKeys(keys));
    const socket = connect(ADDRESS, { 'x-account': 'alice' });
    socket.receive('a', 'b');
    expect(peerOf(socket)?.keys).toMatchObject({ account: 'alice', address: ADDRESS });
    expect(peerOf(connect())?.keys['account']).toBeUndefined();
    expect(keys).toHaveBeenCalledTimes(2);
  });

  test('a peer for as long as the connection is guarded', () => {
    const { connect, peerOf, guard } = guarded({});
    const [socket, other] = [connect(), connect()];
    socket.terminate();
    expect([peerOf(socket), peerOf(other)]).toEqual([undefined, expect.any(Object)]);
    guard.close();
    expect(peerOf(other)).toBeUndefined();
  });
});

describe.each(ENGINES)('A connection to a guard with a RuleLimiter on the %s engine', (engine) => {
  test('is charged to all scopes but connection', () => {
    const { connect, left } = guarded(
      {
        engine,
        rules: {
          own: only('connection', 9),
          connects: only('address', 9, { action: 'connect' }),
          all: only('address', 9),
          members: only('account', 9),
        },
      },
      withKeys(() => ({ account: 'alice' })),
    );
    const socket = connect();
    expect(left(socket, 'own')).toBe(9);
    expect(left(socket, 'connects', 'connect')).toBe(8);
    expect(left(socket, 'all')).toBe(8);
    expect(left(socket, 'members')).toBe(8);
  });

  const BANS = { address: { violations: 1, withinSeconds: 1, seconds: 90 } };
  test.each<[string, Partial<RuleLimiterOptions>, object, object]>([
    [
      '403 if it is denied',
      { deny: { address: [ADDRESS] } },
      { status: 403 },
      { reason: 'denied', action: 'disconnect', delaySeconds: Infinity, rule: null },
    ],
    [
      '429 if its address is banned by this check',
      { rules: { connects: only('address', 1, { action: 'connect' }) }, bans: BANS },
      { status: 429, retryAfter: '90' },
      { reason: 'ban', action: 'disconnect', delaySeconds: 90, rule: 'connects' },
    ],
    [
      '429 above a rule',
      { rules: { connects: { scope: 'address', rateLimit: 0.1, burstLimit: 1 } } },
      { status: 429, retryAfter: '11' },
      { reason: 'rate', action: 'delay', rule: 'connects' },
    ],
  ])('gets %s', (_, limits, answer, verdict) => {
    const { connect, answers, verdicts, guard } = guarded({ engine, ...limits });
    connect();
    expect(connect()).toBeUndefined();
    expect(answers.at(-1)).toEqual(expect.objectContaining(answer));
    expect(verdicts.at(-1)).toMatchObject({
      kind: 'connection',
      did: 'refused',
      key: ADDRESS,
      scope: 'address',
      warning: null,
      ...verdict,
    });
    expect(guard.connections).toBeLessThan(2);
  });

  test('gets what is left of a ban, and a verdict with the key of its network', () => {
    const { connect, answers, verdicts, limiter } = guarded({
      engine,
      scopes: { address: { kind: 'address' }, network: { from: 'address', ipv4Subnet: 24 } },
    });
    limiter.ban('network', '192.0.2.0/24', 60);
    vi.advanceTimersByTime(20_500);
    connect();
    expect(answers).toEqual([{ status: 429, retryAfter: '40' }]);
    expect(verdicts[0]).toMatchObject({ reason: 'ban', key: '192.0.2.0/24', scope: 'network' });
  });

  test('passes with a key on an allow list, whatever the other limits say', () => {
    const connects = new RateLimiter({ engine, burstLimit: 1 });
    const expulsions = new OrderbookRateLimiter({ engine });
    expulsions.ban(ADDRESS, 60);
    const { connect, limiter, verdicts } = guarded(
      {
        engine,
        rules: { connects: only('address', 1, { action: 'connect' }) },
        allow: { account: ['alice'] },
      },
      {
        connections: { maxPerAddress: 1, maxPerServer: 1, limiter: connects },
        expulsions,
        ...withKeys(({ headers }: IncomingMessage) => ({ account: headers['x-account'] })),
      },
    );
    for (let n = 0; n < 3; n += 1) connect(ADDRESS, { 'x-account': 'alice' });
    connect(ADDRESS, { 'x-account': 'bob' });
    expulsions.unban(ADDRESS);
    connect(ADDRESS, { 'x-account': 'bob' });
    const reasons = verdicts.map(({ reason }) => reason);
    expect(reasons).toEqual([undefined, undefined, undefined, 'ban', 'concurrency']);
    expect(limiter.getStats().outcomes).toMatchObject({ allow: 3 });
    expect(limiter.peek({ address: ADDRESS }, 1, 'connect').verdict.outcome).toBe('allow');
    expect(connects.getStats().trackedPeers).toBe(0);
  });

  test('above maxPerAddress charges nothing, unless it is banned or denied anyway', () => {
    const { connect, answers, limiter, left, verdicts } = guarded(
      { engine, rules: { connects: only('address', 9, { action: 'connect' }) } },
      { connections: { maxPerAddress: 1 } },
    );
    const socket = connect();
    connect();
    expect(answers).toEqual([{ status: 429, retryAfter: '10' }]);
    expect(left(socket, 'connects', 'connect')).toBe(8);
    limiter.ban('address', ADDRESS, 60);
    connect();
    limiter.update({ deny: { address: [ADDRESS] } });
    connect();
    expect(answers.slice(1)).toEqual([{ status: 429, retryAfter: '60' }, { status: 403 }]);
    expect(verdicts.map(({ reason }) => reason)).toEqual([
      undefined,
      'concurrency',
      'ban',
      'denied',
    ]);
    expect(limiter.getStats().outcomes).toEqual({ allow: 1, delay: 0, banned: 0, denied: 0 });
  });

  test('is checked by the limiter of connections too, after the rules', () => {
    const { connect, left, verdicts } = guarded(
      { engine, rules: { connects: only('address', 9, { action: 'connect' }) } },
      { connections: { limiter: few(1) } },
    );
    const socket = connect();
    connect();
    expect(left(socket, 'connects', 'connect')).toBe(7);
    expect(verdicts.at(-1)).toMatchObject({ reason: 'rate', rule: null, scope: null });
  });

  test('passes with a warning', () => {
    const rules = { connects: only('address', 2, { action: 'connect', warnBelow: 0.6 }) };
    const { connect, verdicts } = guarded({ engine, rules });
    connect();
    expect(verdicts).toMatchObject([
      { kind: 'connection', did: 'passed', rule: null, scope: null, warning: 'connects' },
    ]);
  });

  test('is not charged if an allow list has its address', () => {
    const { connect, left } = guarded({
      engine,
      rules: { all: only('address', 1) },
      allow: { address: ['192.0.2.0/24'] },
    });
    const sockets = [connect(), connect(), connect()];
    sockets[2]?.receive('a', 'b');
    expect(sockets[2]?.received).toEqual(['a', 'b']);
    expect(left(sockets[0] as FakeSocket, 'all')).toBe(1);
  });

  test.each<[string, () => unknown, unknown]>([
    [
      'throws',
      () => {
        throw new Error('a bug');
      },
      'a bug',
    ],
    ['returns a promise', async () => ({ account: 'a' }), 'ERR_LIMITER_KEY'],
    ['returns a promise that is rejected', () => Promise.reject(new Error()), 'ERR_LIMITER_KEY'],
    ['returns a string', () => 'alice', 'ERR_LIMITER_KEY'],
    ['returns null', () => null, 'ERR_LIMITER_KEY'],
    ['names an unknown scope', () => ({ acount: 'a' }), 'ERR_LIMITER_KEY'],
    ['names the scope address', () => ({ address: '192.0.2.9' }), 'ERR_LIMITER_KEY'],
    ['names the scope connection', () => ({ connection: 'a' }), 'ERR_LIMITER_KEY'],
    ['returns a key that is a number', () => ({ account: 5 }), 'ERR_LIMITER_KEY'],
  ])('gets 503 if keys %s, and is charged nothing', (_, keys, error) => {
    const { connect, answers, errors, limiter, verdicts } = guarded({ engine }, withKeys(keys));
    expect(connect()).toBeUndefined();
    expect(answers).toMatchObject([{ status: 503 }]);
    expect(errors).toEqual([error]);
    expect(verdicts).toMatchObject([{ did: 'refused', reason: 'error', rule: null }]);
    expect(limiter.getStats().outcomes.allow).toBe(0);
  });
});

describe('The options of a guard with a RuleLimiter', () => {
  const limiter = new RuleLimiter({ scopes: SCOPES, rules: {} });
  test.each<[string, object, RegExp]>([
    ['limiter is no RuleLimiter', { limiter: new RateLimiter() }, /limiter must be a RuleLimiter/],
    ['keys come without limiter', { keys: () => ({}) }, /keys must be absent without limiter/],
    ['classify comes without limiter', { classify() {} }, /classify must be absent without/],
    ['keys is no function', { limiter, keys: {} }, /keys must be a function/],
    ['classify is no function', { limiter, classify: 'x' }, /classify must be a function/],
    ['a RuleLimiter is in messages', { messages: { limiter } }, /RuleLimiter: it is the option/],
    [
      'the scope connection has addresses',
      { limiter: new RuleLimiter({ scopes: { connection: { kind: 'address' } }, rules: {} }) },
      /the scope "connection" of the limiter must be of kind text, got address/,
    ],
    [
      'the scope address is single',
      { limiter: new RuleLimiter({ scopes: { address: { single: true } }, rules: {} }) },
      /the scope "address" of the limiter must be of kind text or address, got single/,
    ],
  ])('are refused if %s', (_, options, message) => {
    const server = { options: {}, handleUpgrade() {} } as never;
    const guard = () => guardWebSocketServer(server, options as WebSocketGuardOptions);
    expect(guard).toThrow(message);
    expect(codeOf(guard)).toBe('ERR_LIMITER_OPTION');
  });
});
