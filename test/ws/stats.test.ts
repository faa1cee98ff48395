// What a guard of WebSockets counts, without network sockets and in virtual time.

import { OrderbookRateLimiter, RateLimiter, RuleLimiter } from 'relay-limiter';
import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { monotonicSeconds } from '../../dist/common/clock.js';
import { manualClock } from '../support/limiters.js';
import { few } from '../support/sockets.js';
import { type FakeSocket, guardedVirtually } from './virtual.js';

// The guard reads its clock function when it is loaded, so the fake clock must be installed before.
vi.hoisted(() => vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'hrtime'] }));

beforeEach(() => vi.clearAllTimers());
afterAll(() => void vi.useRealTimers());

const passing = (seconds: number) => vi.advanceTimersByTimeAsync(seconds * 1000);
const NONE_REFUSED = { ban: 0, concurrency: 0, denied: 0, error: 0, rate: 0 };
const NONE_CLOSED = { disconnect: 0, error: 0, expelled: 0 };
const NONE_DROPPED = { cost: 0, rate: 0 };

describe('getStats of a WebSocketGuard', () => {
  test('returns zeros for a new guard', () => {
    const { guard } = guardedVirtually({});
    expect(guard.getStats()).toMatchObject({
      connections: {
        open: 0,
        paused: 0,
        accepted: 0,
        refused: NONE_REFUSED,
        closed: NONE_CLOSED,
      },
      messages: { passed: 0, delayed: 0, dropped: NONE_DROPPED },
    });
  });

  test('counts the same without onVerdict', () => {
    const limiter = few(1);
    const { guard, connect } = guardedVirtually({ messages: { limiter }, onVerdict: undefined });
    connect().receive('a', 'b');
    expect(guard.getStats()).toMatchObject({
      connections: { open: 1, accepted: 1 },
      messages: { passed: 1, dropped: { rate: 1 } },
    });
  });

  test('counts connections that passed, were refused by each reason, and are open', () => {
    const bans = new OrderbookRateLimiter({ violationBanThreshold: 0, clock: manualClock() });
    bans.check('192.0.2.66');
    const limiter = new RuleLimiter({
      clock: manualClock(),
      scopes: { address: { kind: 'address' } },
      rules: {},
      deny: { address: ['192.0.2.13'] },
    });
    const { guard, connect } = guardedVirtually({
      limiter,
      connections: { limiter: few(3), maxPerAddress: 2 },
      expulsions: bans,
      trustedProxies: (address) => {
        if (address === '192.0.2.99') throw new Error('unknown proxy');
        return false;
      },
    });
    const [first] = [connect(), connect(), connect()];
    for (let n = 0; n < 5; n += 1) connect(`198.51.100.${n}`);
    connect('192.0.2.66');
    connect('192.0.2.13');
    const { connections } = guard.getStats();
    expect(connections).toMatchObject({ open: 7, accepted: 7 });
    expect(connections.refused).toEqual({ ...NONE_REFUSED, concurrency: 1, ban: 1, denied: 1 });
    (first as FakeSocket).terminate();
    expect(guard.getStats().connections).toMatchObject({ open: 6, accepted: 7 });
  });

  test('counts a refused connection rate and an error of the user', () => {
    const { guard, connect } = guardedVirtually({
      connections: { limiter: few(1) },
      keys: () => {
        throw new Error('no keys');
      },
      limiter: new RuleLimiter({ scopes: { account: {} }, rules: {} }),
      onError: () => {},
    });
    connect();
    expect(guard.getStats().connections.refused).toEqual({ ...NONE_REFUSED, error: 1 });
    const rated = guardedVirtually({ connections: { limiter: few(1) } });
    rated.connect();
    rated.connect();
    expect(rated.guard.getStats().connections.refused).toEqual({ ...NONE_REFUSED, rate: 1 });
  });

  test('counts messages that passed and were dropped, by reason', () => {
    const cost = (data: unknown) => Number(data);
    const { guard, connect } = guardedVirtually({ messages: { limiter: few(10), cost } });
    const socket = connect();
    socket.receive('4', '4', '4', '11', '2');
    expect(guard.getStats().messages).toEqual({
      passed: 3,
      delayed: 0,
      dropped: { rate: 1, cost: 1 },
    });
  });

  test('counts connections that the guard closed, by reason, and not those that the peer closed', () => {
    const limiter = few(1, { disconnectThreshold: 1 });
    const { guard, connect } = guardedVirtually({ messages: { limiter } });
    const [flooder, expelled, leaving] = [connect(), connect(), connect()] as [
      FakeSocket,
      FakeSocket,
      FakeSocket,
    ];
    flooder.receive('a', 'b', 'c');
    guard.expel(expelled as never);
    guard.expel(expelled as never);
    leaving.terminate();
    expect(guard.getStats().connections.closed).toEqual({
      ...NONE_CLOSED,
      disconnect: 1,
      expelled: 1,
    });
    expect(guard.getStats().messages).toMatchObject({ passed: 1, dropped: NONE_DROPPED });
  });

  test('counts each message that waits once, and the connections that are paused now', async () => {
    const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 1, clock: monotonicSeconds });
    const { guard, connect } = guardedVirtually({ messages: { limiter }, onDelay: 'pause' });
    const paused = () => guard.getStats().connections.paused;
    const [slow, leaving, other] = [connect(), connect(), connect()] as [
      FakeSocket,
      FakeSocket,
      FakeSocket,
    ];
    slow.receive('a', 'b', 'c');
    leaving.receive('a', 'b');
    other.receive('a');
    expect(paused()).toBe(2);
    leaving.terminate();
    expect(paused()).toBe(1);
    await passing(1.01);
    expect(paused()).toBe(1);
    await passing(1.01);
    expect(paused()).toBe(0);
    expect(guard.getStats().messages).toEqual({ passed: 5, delayed: 3, dropped: NONE_DROPPED });
  });

  test('has no paused connections after an expulsion, and after the guard is closed', () => {
    const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 1, clock: monotonicSeconds });
    const { guard, connect } = guardedVirtually({ messages: { limiter }, onDelay: 'pause' });
    const [first, second] = [connect(), connect()];
    for (const socket of [first, second]) socket.receive('a', 'b');
    expect(guard.getStats().connections.paused).toBe(2);
    guard.expel(first as never);
    expect(guard.getStats().connections.paused).toBe(1);
    guard.close();
    expect(guard.getStats().connections).toMatchObject({ open: 0, paused: 0, accepted: 2 });
  });

  test('counts one paused connection if a message has to wait again for the same bucket', async () => {
    const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 1, clock: monotonicSeconds });
    const messages = { limiter, key: () => 'shared' };
    const { guard, connect } = guardedVirtually({ messages, onDelay: 'pause' });
    const socket = connect();
    socket.receive('a', 'b');
    await passing(1);
    // Other code takes the token that the message waits for, before its timer fires.
    expect(limiter.check('shared')[0]).toBe('allow');
    await passing(0.5);
    expect(socket.received).toEqual(['a']);
    expect(guard.getStats()).toMatchObject({
      connections: { paused: 1 },
      messages: { passed: 1, delayed: 1 },
    });
    await passing(1);
    expect(socket.received).toEqual(['a', 'b']);
    expect(guard.getStats().connections.paused).toBe(0);
  });

  test('counts one paused connection if a message waits for two rules in turn', async () => {
    const limiterOf = (rateLimit: number) =>
      new RateLimiter({ rateLimit, burstLimit: 1, clock: monotonicSeconds });
    const messages = [{ limiter: limiterOf(2) }, { limiter: limiterOf(1) }];
    const { guard, connect } = guardedVirtually({ messages, onDelay: 'pause' });
    const socket = connect();
    socket.receive('a', 'b');
    await passing(0.6);
    expect(guard.getStats()).toMatchObject({
      connections: { paused: 1 },
      messages: { passed: 1, delayed: 1 },
    });
    await passing(1);
    expect(socket.received).toEqual(['a', 'b']);
    expect(guard.getStats().connections.paused).toBe(0);
  });
});
