// A RuleLimiter in the guard of WebSockets: keys, connections, messages, lists and bans. Fake sockets in virtual time.

import {
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter,
  type RuleLimiterOptions,
} from 'relay-limiter';
import { guardWebSocketServer, type WebSocketGuardOptions } from 'relay-limiter/ws';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { WebSocket } from 'ws';
import { monotonicSeconds } from '../../dist/common/clock.js';
import { codeOf, ENGINES } from '../support/limiters.js';
import { few } from '../support/sockets.js';
import { type FakeSocket, guardedVirtually } from './virtual.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'hrtime'] }));
afterEach(() => void vi.useRealTimers());

const SCOPES = { connection: {}, address: { kind: 'address' }, account: {} } as const;
const ADDRESS = '192.0.2.1';

/** A rule of so many tokens, and no more for a day. */
const only = (scope: string, quota: number, fields: object = {}) => ({
  scope,
  quota,
  windowSeconds: 86_400,
  ...fields,
});

/** A guard with a RuleLimiter. `errors` are the codes that `onError` got. */
function guarded(
  limits: Partial<RuleLimiterOptions>,
  options: WebSocketGuardOptions & { keys?: never } = {},
) {
  const limiter = new RuleLimiter({
    scopes: SCOPES,
    rules: {},
    clock: monotonicSeconds,
    ...limits,
  });
  const errors: unknown[] = [];
  const onError = (error: unknown) => {
    errors.push((error as { code?: unknown }).code ?? (error as Error).message);
  };
  const virtual = guardedVirtually({ limiter, onError, ...options } as WebSocketGuardOptions);
  const peerOf = (socket: FakeSocket) => virtual.guard.peerOf(socket as unknown as WebSocket);
  /** The tokens that a rule has left for a connection. */
  const left = (socket: FakeSocket, rule: string, action = 'message') =>
    peerOf(socket)
      ?.peek(0, action)
      .rules.find((state) => state.rule === rule)?.remaining;
  return { ...virtual, limiter, errors, peerOf, left };
}

/** What the types of the package hide. */
interface Internals {
  readonly core: Record<'checkPeer' | 'check' | 'open' | 'peek', () => unknown>;
  readonly context: Record<'programOf' | 'planIndexOf', () => unknown>;
}

/** With the option `keys`, which the type above leaves out. */
const withKeys = (keys: unknown) => ({ keys }) as { keys: never };

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

describe.each(ENGINES)('A message to a guard with a RuleLimiter on the %s engine', (engine) => {
  test('costs one request and its bytes, in units that an update may bring', () => {
    const { connect, left, limiter } = guarded({
      engine,
      rules: { messages: only('connection', 100, { action: 'message' }) },
    });
    const socket = connect();
    socket.receive('12345');
    const bytes = only('connection', 100, { unit: 'bytes' });
    limiter.update({ rules: { bytes, messages: only('connection', 100, { action: 'message' }) } });
    socket.receive('12345', '');
    expect([left(socket, 'messages'), left(socket, 'bytes')]).toEqual([97, 94]);
    limiter.update({ rules: { bytes } });
    socket.receive('12345');
    expect(left(socket, 'bytes')).toBe(89);
    expect(socket.received).toEqual(['12345', '12345', '', '12345']);
  });

  test('may be a ping or a pong, which are not classified', () => {
    const classify = vi.fn(() => ({ action: 'other' }));
    const { connect, left } = guarded(
      { engine, rules: { messages: only('connection', 2, { action: 'message' }) } },
      { classify },
    );
    const socket = connect();
    const [pings, pongs] = [vi.fn(), vi.fn()];
    socket.on('ping', pings).on('pong', pongs);
    for (let n = 0; n < 3; n += 1) socket.emit('ping', Buffer.alloc(3));
    for (let n = 0; n < 3; n += 1) socket.emit('pong', Buffer.alloc(3));
    expect([pings.mock.calls.length, pongs.mock.calls.length]).toEqual([2, 3]);
    expect(left(socket, 'messages')).toBe(0);
    expect(classify).not.toHaveBeenCalled();
  });

  const MESSAGES = only('connection', 100, { action: 'message' });
  const EVENTS = only('connection', 100, { action: 'event' });
  const BYTES = only('connection', 100, { unit: 'bytes' });
  const ROWS = only('connection', 100, { unit: 'rows' });
  const RULES = { MESSAGES, EVENTS, BYTES, ROWS };
  test.each<[string, object | undefined, Partial<Record<keyof typeof RULES, number>>]>([
    ['nothing', undefined, { MESSAGES: 99, BYTES: 95 }],
    ['no field', {}, { MESSAGES: 99, BYTES: 95 }],
    ['only a value', { value: 5 }, { MESSAGES: 99, BYTES: 95 }],
    ['another action', { action: 'event' }, { EVENTS: 99, BYTES: 95 }],
    ['an action without rules', { action: 'unknown' }, { BYTES: 95 }],
    ['requests', { cost: 3 }, { MESSAGES: 97, BYTES: 95 }],
    ['no cost', { cost: 0 }, { BYTES: 95 }],
    ['a unit', { cost: { rows: 7 } }, { MESSAGES: 99, BYTES: 95, ROWS: 93 }],
    ['bytes', { cost: { bytes: 20, requests: 0 } }, { BYTES: 80 }],
    ['a plan', { plan: 'paid' }, { BYTES: 95 }],
    ['a key', { keys: { account: 'alice' }, cost: 2 }, { MESSAGES: 98, BYTES: 95 }],
  ])('that classify gives %s is charged so', (_, classification, expected) => {
    const { connect, left } = guarded(
      { engine, rules: RULES, plans: { paid: { MESSAGES: null } } },
      { classify: () => classification },
    );
    const socket = connect();
    socket.receive('12345');
    const states = { MESSAGES: 100, BYTES: 100, ROWS: 100, ...expected };
    for (const [rule, remaining] of Object.entries(states)) {
      expect([rule, left(socket, rule, rule === 'EVENTS' ? 'event' : 'message')]).toEqual([
        rule,
        remaining,
      ]);
    }
  });

  test('may have keys and a plan of its own', () => {
    const { connect, limiter, peerOf, verdicts } = guarded(
      {
        engine,
        rules: { notes: only('account', 2, { action: 'note' }) },
        plans: { paid: { notes: { quota: 3 } } },
      },
      {
        classify: (data) => {
          const [account = '', plan] = String(data).split(' ');
          return { action: 'note', keys: { account }, plan };
        },
      },
    );
    const socket = connect();
    socket.receive('alice', 'alice', 'alice', 'alice paid', 'alice paid', 'bob', 'bob');
    expect(socket.received).toEqual(['alice', 'alice', 'alice paid', 'bob', 'bob']);
    expect(verdicts.filter(({ did }) => did === 'dropped')).toMatchObject([
      { key: 'alice', rule: 'notes', scope: 'account' },
      { key: 'alice', rule: 'notes', scope: 'account' },
    ]);
    expect(peerOf(socket)?.keys['account']).toBeUndefined();
    expect(limiter.getStats().scopes['account']?.peers).toBe(2);
  });

  test('is passed to listeners with its value, and without classify as ws passes it', () => {
    const calls: unknown[][] = [];
    const listen = (socket: FakeSocket) => {
      socket.on('message', (...args) => calls.push([String(args[0]), ...args.slice(1)]));
      socket.receive('1');
      socket.emit('message', Buffer.from('2'), true);
    };
    const classify = (data: unknown, isBinary: boolean) =>
      isBinary ? undefined : { value: { parsed: String(data) } };
    listen(guarded({ engine }, { classify }).connect());
    listen(guarded({ engine }).connect());
    expect(calls).toEqual([
      ['1', false, { parsed: '1' }],
      ['2', true, undefined],
      ['1', false],
      ['2', true],
    ]);
  });

  test.each<[string, () => unknown, unknown]>([
    [
      'throws',
      () => {
        throw new Error('a bug');
      },
      'a bug',
    ],
    ['returns a promise', async () => ({}), 'ERR_LIMITER_OPTION'],
    ['returns a promise that is rejected', () => Promise.reject(new Error()), 'ERR_LIMITER_OPTION'],
    ['returns a string', () => 'event', 'ERR_LIMITER_OPTION'],
    ['returns null', () => null, 'ERR_LIMITER_OPTION'],
    ['returns an unknown field', () => ({ acton: 'event' }), 'ERR_LIMITER_OPTION'],
    ['returns an action that is no text', () => ({ action: 5 }), 'ERR_LIMITER_OPTION'],
    ['returns an unknown plan', () => ({ plan: 'paid' }), 'ERR_LIMITER_OPTION'],
    ['returns a negative cost', () => ({ cost: -1 }), 'ERR_LIMITER_COST'],
    ['returns NaN as cost', () => ({ cost: Number.NaN }), 'ERR_LIMITER_COST'],
    ['returns a cost in an unknown unit', () => ({ cost: { rows: 1 } }), 'ERR_LIMITER_COST'],
    ['returns null as cost', () => ({ cost: null }), 'ERR_LIMITER_COST'],
    ['returns an unknown scope', () => ({ keys: { acount: 'a' } }), 'ERR_LIMITER_KEY'],
    ['returns keys that are no object', () => ({ keys: 'alice' }), 'ERR_LIMITER_KEY'],
    ['returns a key of the connection', () => ({ keys: { connection: 'x' } }), 'ERR_LIMITER_KEY'],
    ['returns an address', () => ({ keys: { address: '192.0.2.9' } }), 'ERR_LIMITER_KEY'],
    [
      'returns a cost that throws',
      () => ({
        cost: {
          get requests(): number {
            throw new Error('a bug');
          },
        },
      }),
      'a bug',
    ],
  ])('closes with 1011 if classify %s, and is charged nothing', (_, classify, error) => {
    const { connect, errors, limiter, verdicts } = guarded(
      { engine, rules: { all: only('connection', 9) } },
      { classify } as WebSocketGuardOptions & { keys?: never },
    );
    const socket = connect();
    socket.receive('a', 'b');
    expect(socket.closes).toEqual([[1011, 'internal error']]);
    expect(socket.received).toEqual([]);
    expect(errors).toEqual([error]);
    expect(verdicts.slice(1)).toMatchObject([
      { did: 'closed', reason: 'error', action: 'delay', rule: null, scope: null, warning: null },
    ]);
    expect(limiter.getStats().rules['all']?.checked).toBe(0);
    expect(limiter.getStats().scopes['connection']?.peers).toBe(0);
  });

  test('that classify ends the guard with is delivered; that it expels with is not', () => {
    const ended = guarded({ engine }, { classify: () => void ended.guard.close() });
    const socket = ended.connect();
    socket.receive('a', 'b');
    expect(socket.received).toEqual(['a', 'b']);
    expect(ended.limiter.getStats().outcomes.allow).toBe(1);

    const expelled = guarded(
      { engine },
      { classify: (_, __, socket) => void expelled.guard.expel(socket) },
    );
    const other = expelled.connect();
    other.receive('a', 'b');
    expect(other.received).toEqual([]);
    expect(other.closes).toHaveLength(1);
    expect(expelled.verdicts).toHaveLength(1);
  });

  test('closes if it begins a ban, and so does the next message of each connection', () => {
    const { connect, verdicts, limiter } = guarded({
      engine,
      rules: { messages: only('address', 3, { action: 'message' }) },
      bans: { address: { violations: 2, withinSeconds: 60, seconds: 600 } },
    });
    const [first, second] = [connect(), connect()];
    first.receive('1', '2', '3', '4', '5', '6');
    expect(first.closes).toEqual([[1008, 'rate limit exceeded']]);
    expect(first.received).toEqual(['1', '2', '3']);
    vi.advanceTimersByTime(10_000);
    second.receive('1');
    expect(second.closes).toEqual([[1008, 'rate limit exceeded']]);
    expect(second.received).toEqual([]);
    const shown = verdicts
      .filter(({ did }) => did === 'dropped' || did === 'closed')
      .map(({ did, reason, rule, key, delaySeconds }) => [did, reason, rule, key, delaySeconds]);
    expect(shown.slice(1)).toEqual([
      ['closed', 'disconnect', 'messages', ADDRESS, 600],
      ['closed', 'disconnect', null, ADDRESS, 590],
    ]);
    first.terminate();
    second.terminate();
    // The ban outlives the connections; of these nothing is left.
    expect(limiter.banSecondsLeft('address', ADDRESS)).toBe(590);
    expect(connect()).toBeUndefined();
    connect('192.0.2.2').receive('1');
    expect(limiter.getStats().scopes['connection']?.peers).toBe(0);
  });

  test('removes the key of its connection when that closes, and no other', () => {
    const { connect, limiter } = guarded({
      engine,
      rules: { own: only('connection', 9), all: only('address', 9) },
    });
    const socket = connect();
    socket.receive('a');
    const peers = () => {
      const { scopes } = limiter.getStats();
      return [scopes['connection']?.peers, scopes['address']?.peers];
    };
    expect(peers()).toEqual([1, 1]);
    socket.terminate();
    expect(peers()).toEqual([0, 1]);
  });

  test('closes if an update has denied its address, which is no offence', () => {
    const expulsions = new OrderbookRateLimiter({ engine });
    const { connect, limiter, verdicts } = guarded({ engine }, { expulsions });
    const socket = connect();
    socket.receive('a');
    limiter.update({ deny: { address: [ADDRESS] } });
    socket.receive('b');
    expect(socket.received).toEqual(['a']);
    expect(socket.closes).toEqual([[1008, 'policy violation']]);
    expect(verdicts.at(-1)).toMatchObject({
      did: 'closed',
      reason: 'denied',
      action: 'disconnect',
      scope: 'address',
      key: ADDRESS,
    });
    expect(expulsions.getStatistics().trackedPeers).toBe(0);
  });

  test.each<[string, (limiter: RuleLimiter) => void, string]>([
    ['denied', (limiter) => limiter.update({ deny: { address: [ADDRESS] } }), 'denied'],
    ['banned', (limiter) => limiter.ban('address', ADDRESS, 60), 'disconnect'],
  ])('closes even if it is a pong, once its address is %s', (_, act, reason) => {
    const { connect, limiter, verdicts } = guarded({ engine });
    const socket = connect();
    const pongs = vi.fn();
    socket.on('pong', pongs);
    act(limiter);
    socket.emit('pong', Buffer.alloc(0));
    expect(socket.closes).toHaveLength(1);
    expect(pongs).not.toHaveBeenCalled();
    expect(verdicts.at(-1)).toMatchObject({ kind: 'pong', did: 'closed', reason });
  });

  test('passes with a warning, and its listeners get it', () => {
    const { connect, verdicts } = guarded({
      engine,
      rules: { messages: only('connection', 3, { warnBelow: 0.5 }) },
    });
    const socket = connect();
    socket.receive('1', '2', '3', '4');
    expect(socket.received).toEqual(['1', '2', '3']);
    const shown = verdicts.slice(1).map(({ did, rule, warning }) => [did, rule, warning]);
    expect(shown).toEqual([
      ['passed', null, null],
      ['passed', null, 'messages'],
      ['passed', null, 'messages'],
      ['dropped', 'messages', null],
    ]);
  });

  test('is checked by the rules first, and then by the limits of messages', () => {
    const messages = { limiter: few(1) };
    const { connect, left, verdicts } = guarded(
      { engine, rules: { all: only('connection', 3, { warnBelow: 0.5 }) } },
      { messages },
    );
    const socket = connect();
    socket.receive('1', '2', '3', '4');
    expect(socket.received).toEqual(['1']);
    expect(left(socket, 'all')).toBe(0);
    const shown = verdicts.slice(2).map(({ did, rule, warning }) => [did, rule, warning]);
    expect(shown).toEqual([
      ['dropped', null, 'all'],
      ['dropped', null, 'all'],
      ['dropped', 'all', null],
    ]);
  });

  test('is limited by the plan and the keys that assign gives to the peer', () => {
    const { connect, peerOf } = guarded({
      engine,
      rules: { notes: only('account', 1), messages: only('connection', 1) },
      plans: { paid: { messages: null, notes: { quota: 3 } } },
    });
    const socket = connect();
    socket.receive('1', '2');
    peerOf(socket)?.assign({ account: 'alice' }, 'paid');
    socket.receive('3', '4', '5', '6');
    expect(socket.received).toEqual(['1', '3', '4', '5']);
  });

  test('crosses to the engine once, and asks for no name', () => {
    const { connect, limiter } = guarded({
      engine,
      rules: { own: only('connection', 99), all: only('address', 99, { unit: 'bytes' }) },
    });
    const socket = connect();
    socket.receive('a');
    const { core, context } = limiter as unknown as Internals;
    const check = vi.spyOn(core, 'checkPeer');
    const others = [
      ...(['check', 'open', 'peek'] as const).map((name) => vi.spyOn(core, name)),
      ...(['programOf', 'planIndexOf'] as const).map((name) => vi.spyOn(context, name)),
    ];
    socket.receive('b', 'c');
    expect(socket.received).toEqual(['a', 'b', 'c']);
    expect(check).toHaveBeenCalledTimes(2);
    for (const spy of others) expect(spy).not.toHaveBeenCalled();
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
