// A RuleLimiter in the guard of WebSockets: what messages cost, how they are classified, and what closes a connection. Fake
// sockets in virtual time.

import { OrderbookRateLimiter, type RuleLimiter } from 'relay-limiter';
import type { WebSocketGuardOptions } from 'relay-limiter/ws';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ENGINES } from '../support/limiters.js';
import { few } from '../support/sockets.js';
import type { FakeSocket } from './virtual.js';
import { ADDRESS, guarded, only } from './virtual-rules.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'hrtime'] }));
afterEach(() => void vi.useRealTimers());

/** What the types of the package hide. */
interface Internals {
  readonly core: Record<'checkPeer' | 'check' | 'open' | 'peek', () => unknown>;
  readonly context: Record<'programOf' | 'planIndexOf', () => unknown>;
}

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
