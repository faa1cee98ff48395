// Pauses of a guard with a RuleLimiter, in virtual time: when messages pass, which connections wait for each other, and
// what a message that waits is charged.

import { RateLimiter, RuleLimiter, type RuleLimiterOptions } from 'relay-limiter';
import type { WebSocketGuardOptions } from 'relay-limiter/ws';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { WebSocket } from 'ws';
import { monotonicSeconds } from '../../dist/common/clock.js';
import { ENGINES } from '../support/limiters.js';
import { type FakeSocket, guardedVirtually } from './virtual.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'hrtime'] }));
afterEach(() => void vi.useRealTimers());

const passing = (seconds: number) => vi.advanceTimersByTimeAsync(seconds * 1000);
const numbers = (count: number) => Array.from({ length: count }, (_, n) => String(n));

/** A pausing guard with a RuleLimiter, whose messages have their action as text; those that are free cost nothing. */
function guarded(
  limits: Partial<RuleLimiterOptions>,
  options: Omit<WebSocketGuardOptions, 'keys'> = {},
) {
  const limiter = new RuleLimiter({
    scopes: { connection: {}, address: { kind: 'address' }, server: { single: true } },
    rules: {},
    clock: monotonicSeconds,
    ...limits,
  });
  const classify = (data: unknown) => {
    const [action, ...words] = String(data).split(' ');
    return { action, cost: words.includes('free') ? 0 : 1 };
  };
  const virtual = guardedVirtually({ limiter, classify, onDelay: 'pause', ...options });
  const peerOf = (socket: FakeSocket) => virtual.guard.peerOf(socket as unknown as WebSocket);
  return { ...virtual, limiter, peerOf };
}

describe.each(ENGINES)('A pausing guard with a RuleLimiter on the %s engine', (engine) => {
  test('passes each message as soon as the rules allow it, in order', async () => {
    const { connect, verdicts, limiter } = guarded({
      engine,
      rules: {
        own: { scope: 'connection', rateLimit: 100, burstLimit: 5 },
        bytes: { scope: 'address', unit: 'bytes', rateLimit: 1e6, violation: false },
      },
    });
    const socket = connect();
    const started = monotonicSeconds();
    const times: number[] = [];
    socket.on('message', () => times.push(monotonicSeconds() - started));
    socket.receive(...numbers(45));
    expect(times).toEqual([0, 0, 0, 0, 0]);
    await passing(1);
    expect(socket.received).toEqual(numbers(45));
    for (const [n, time] of times.slice(5).entries()) {
      const earliest = (n + 1) / 100;
      expect(time).toBeGreaterThanOrEqual(earliest - 1e-6);
      // Each wait is rounded up to a millisecond, and one more.
      expect(time).toBeLessThanOrEqual(earliest + 0.003);
    }
    const paused = verdicts.filter(({ did }) => did === 'paused');
    expect(paused).toHaveLength(40);
    expect(paused[0]).toMatchObject({ rule: 'own', scope: 'connection', reason: 'rate' });
    // Each message beyond the burst is refused once.
    expect(limiter.getStats().rules['own']?.refused).toBe(40);
    expect([socket.isPaused, vi.getTimerCount()]).toEqual([false, 0]);
  });

  test('delivers what waits with its value when it is closed', () => {
    const values: unknown[] = [];
    const onError = vi.fn();
    const classify = (data: unknown) => {
      if (String(data) === '3') throw new Error('not a message');
      return { value: `value ${data}` };
    };
    const { connect, guard } = guarded(
      { engine, rules: { own: { scope: 'connection', rateLimit: 1, burstLimit: 1 } } },
      { classify, onError },
    );
    const socket = connect();
    socket.on('message', (_, __, value) => values.push(value));
    socket.receive(...numbers(5));
    guard.close();
    expect(socket.received).toEqual(numbers(5));
    expect(values).toEqual(['value 0', 'value 1', 'value 2', undefined, 'value 4']);
    expect(onError).toHaveBeenCalledTimes(1);
  });

  test('gives messages the plan of the peer if an update removes their plan', async () => {
    const onError = vi.fn();
    const own = { rateLimit: 1, burstLimit: 1 };
    const { connect, limiter } = guarded(
      {
        engine,
        rules: { own: { scope: 'connection', ...own } },
        plans: { paid: { own: { rateLimit: 2, burstLimit: 1 } } },
      },
      { classify: () => ({ plan: 'paid' }), onError },
    );
    const socket = connect();
    const stranger = connect();
    socket.receive(...numbers(3));
    await passing(0.1);
    limiter.update({ plans: {} });
    await passing(2);
    expect([socket.received, socket.closes]).toEqual([numbers(3), []]);
    expect(onError).not.toHaveBeenCalled();
    // A plan that no message of the connection had is a mistake.
    stranger.receive('a');
    expect(onError).toHaveBeenCalledTimes(1);
    expect(stranger.closes).toHaveLength(1);
  });

  test('charges a message that waits to no rule, and when it passes once to all', async () => {
    const { connect, peerOf } = guarded({
      engine,
      rules: {
        slow: { scope: 'address', action: 'note', rateLimit: 0.1, burstLimit: 1 },
        own: { scope: 'connection', quota: 9, windowSeconds: 86_400 },
      },
    });
    const socket = connect();
    const left = () => Math.round(peerOf(socket)?.peek(0).rules[0]?.remaining ?? Number.NaN);
    socket.receive('note 1', 'note 2');
    expect([socket.received, left()]).toEqual([['note 1'], 8]);
    await passing(9.9);
    expect([socket.received, left()]).toEqual([['note 1'], 8]);
    await passing(0.2);
    expect([socket.received, left()]).toEqual([['note 1', 'note 2'], 7]);
  });

  test('lets connections that share a bucket wait in turn, each with one violation at most', async () => {
    const { connect, limiter } = guarded({
      engine,
      rules: { all: { scope: 'address', action: 'note', rateLimit: 1, burstLimit: 1 } },
    });
    const sockets = Array.from({ length: 8 }, () => connect());
    const order: number[] = [];
    for (const [n, socket] of sockets.entries()) {
      socket.on('message', () => order.push(n));
      socket.receive('note');
    }
    expect(order).toEqual([0]);
    const violations = () => limiter.scope('address').getViolationCount('192.0.2.1');
    expect(violations()).toBe(1);
    const other = connect('192.0.2.2');
    other.receive('note');
    expect(other.received).toEqual(['note']);
    for (let second = 1; second < 8; second += 1) {
      await passing(1.01);
      expect(order).toHaveLength(second + 1);
    }
    expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(violations()).toBe(7);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('lets no message wait for a bucket that it does not use', async () => {
    const { connect, limiter } = guarded({
      engine,
      rules: {
        notes: { scope: 'server', action: 'note', rateLimit: 0.1, burstLimit: 1 },
        reads: { scope: 'server', action: ['read', 'connect'], rateLimit: 100 },
      },
      allow: { address: ['192.0.2.9'] },
    });
    const [first, second, third, allowed] = [connect(), connect(), connect(), connect('192.0.2.9')];
    first.receive('note 1', 'note 2');
    expect(first.isPaused).toBe(true);
    second.receive('read', 'note free');
    third.receive('note');
    allowed.receive('note');
    expect([second.received, third.received, allowed.received]).toEqual([
      ['read', 'note free'],
      [],
      ['note'],
    ]);
    expect(limiter.getStats().rules['notes']?.refused).toBe(1);
    await passing(10.1);
    expect([first.received, third.received]).toEqual([['note 1', 'note 2'], []]);
    await passing(10.1);
    expect(third.received).toEqual(['note']);
  });

  test('lets two connections wait for two buckets without waiting for each other', async () => {
    const { connect } = guarded({
      engine,
      rules: {
        a: { scope: 'server', action: ['a', 'both'], rateLimit: 1, burstLimit: 1 },
        b: { scope: 'address', action: ['b', 'both'], rateLimit: 1, burstLimit: 1 },
      },
    });
    const sockets = Array.from({ length: 6 }, () => connect());
    for (const socket of sockets.slice(0, 3)) socket.receive('a', 'both');
    for (const socket of sockets.slice(3)) socket.receive('b', 'both');
    await passing(29);
    expect(sockets.map(({ received }) => received)).toEqual([
      ...Array(3).fill(['a', 'both']),
      ...Array(3).fill(['b', 'both']),
    ]);
    expect(sockets.flatMap(({ closes }) => closes)).toEqual([]);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('lets a message wait for the next rule that refuses it', async () => {
    const { connect, verdicts, peerOf } = guarded({
      engine,
      rules: {
        a: { scope: 'connection', rateLimit: 1, burstLimit: 1 },
        b: { scope: 'server', action: ['note', 'other'], rateLimit: 0.2, burstLimit: 1 },
      },
    });
    const [socket, other] = [connect(), connect()];
    socket.receive('x', 'note');
    // Meanwhile another connection empties the bucket of b.
    other.receive('other');
    await passing(1.1);
    expect(socket.received).toEqual(['x']);
    await passing(3.8);
    expect(socket.received).toEqual(['x']);
    await passing(0.2);
    expect(socket.received).toEqual(['x', 'note']);
    expect(verdicts.filter(({ did }) => did === 'paused')).toHaveLength(1);
    expect(peerOf(socket)).toBeDefined();
  });

  test('closes a connection that is banned while it waits, and the next one takes its turn', async () => {
    const { connect, limiter } = guarded({
      engine,
      rules: { all: { scope: 'server', action: 'note', rateLimit: 1, burstLimit: 1 } },
    });
    const [first, second, third] = [connect(), connect('192.0.2.2'), connect('192.0.2.3')];
    for (const socket of [first, second, third]) socket.receive('note');
    limiter.ban('address', '192.0.2.2', 60);
    await passing(1.1);
    expect(second.closes).toEqual([[1008, 'rate limit exceeded']]);
    await passing(1.1);
    expect([second.received, third.received]).toEqual([[], ['note']]);
  });

  test.each([
    ['a pause above maxPauseSeconds', { rateLimit: 0.01, burstLimit: 1 }, 1013],
    ['a cost above the burst', { rateLimit: 1, burstLimit: 4, unit: 'bytes' }, 1008],
  ])('closes for %s', (_, rule, code) => {
    const { connect } = guarded({ engine, rules: { own: { scope: 'connection', ...rule } } });
    const socket = connect();
    socket.receive('1234', '12345');
    expect(socket.closes).toEqual([[code, expect.any(String)]]);
    expect(socket.received).toEqual(['1234']);
  });

  test('classifies a message that waits once, and delivers its value', async () => {
    const classify = vi.fn((data: unknown) => ({ value: `value of ${data}` }));
    const { connect, guard } = guarded(
      { engine, rules: { own: { scope: 'connection', rateLimit: 1, burstLimit: 1 } } },
      { classify },
    );
    const values: unknown[] = [];
    const socket = connect();
    socket.on('message', (...args) => values.push(args[2]));
    socket.receive('1', '2', '3');
    await passing(1.1);
    expect(classify).toHaveBeenCalledTimes(3);
    guard.close();
    expect(values).toEqual(['value of 1', 'value of 2', 'value of 3']);
    expect(classify).toHaveBeenCalledTimes(3);
  });

  test('reports the warning of the rules when the message has waited for a limit of messages', async () => {
    const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 1, clock: monotonicSeconds });
    const { connect, verdicts } = guarded(
      {
        engine,
        rules: { own: { scope: 'connection', quota: 2, windowSeconds: 86_400, warnBelow: 0.4 } },
      },
      { messages: { limiter } },
    );
    connect().receive('1', '2');
    await passing(1.1);
    expect(verdicts.slice(1).map(({ did, warning }) => [did, warning])).toEqual([
      ['passed', null],
      ['paused', 'own'],
      ['passed', 'own'],
    ]);
  });

  test('delivers a pong at once, and reads nothing until the rules allow it', async () => {
    const { connect } = guarded({
      engine,
      rules: { own: { scope: 'connection', rateLimit: 1, burstLimit: 1 } },
    });
    const socket = connect();
    const pongs = vi.fn();
    socket.on('pong', pongs);
    socket.receive('1');
    socket.emit('pong', Buffer.alloc(0));
    socket.receive('2');
    expect([pongs.mock.calls.length, socket.isPaused, socket.received]).toEqual([1, true, ['1']]);
    await passing(1.1);
    expect(socket.received).toEqual(['1']);
    await passing(1.1);
    expect([pongs.mock.calls.length, socket.received]).toEqual([1, ['1', '2']]);
  });

  test('waits a second for space in a full scope, and keeps nothing when it is closed', async () => {
    const { connect, limiter, verdicts, guard } = guarded({
      engine,
      maxPeers: 1,
      rules: { all: { scope: 'address', quota: 9, windowSeconds: 86_400 } },
    });
    limiter.ban('address', '192.0.2.9', 3);
    const socket = connect('192.0.2.1');
    expect(socket).toBeUndefined();
    limiter.unban('address', '192.0.2.9');
    const admitted = connect('192.0.2.1');
    limiter.removePeer({ address: '192.0.2.1' });
    limiter.ban('address', '192.0.2.9', 3);
    admitted.receive('1');
    expect(verdicts.at(-1)).toMatchObject({ did: 'paused', rule: null, scope: 'address' });
    await passing(2.5);
    expect(admitted.received).toEqual([]);
    await passing(1);
    expect(admitted.received).toEqual(['1']);
    guard.close();
    expect(vi.getTimerCount()).toBe(0);
  });
});
