// Pauses in virtual time: when messages pass, in which order connections wait, and which connections are closed.

import { OrderbookRateLimiter, RateLimiter, type RateLimiterOptions } from 'relay-limiter';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { monotonicSeconds } from '../../dist/common/clock.js';
import { ENGINES } from '../support/limiters.js';
import { few } from '../support/sockets.js';
import { FakeSocket, guardedVirtually } from './virtual.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'hrtime'] }));
afterEach(() => void vi.useRealTimers());

const limiterOf = (options: RateLimiterOptions) =>
  new RateLimiter({ ...options, clock: monotonicSeconds });
const passing = (seconds: number) => vi.advanceTimersByTimeAsync(seconds * 1000);
const numbers = (count: number) => Array.from({ length: count }, (_, n) => String(n));

describe.each(ENGINES)('A pausing guard on the %s engine', (engine) => {
  test('passes each message as soon as the limit allows it, in order', async () => {
    const limiter = limiterOf({ rateLimit: 100, burstLimit: 5, engine });
    const { connect, verdicts } = guardedVirtually({ messages: { limiter }, onDelay: 'pause' });
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
      expect(time).toBeLessThanOrEqual(earliest + 0.002);
    }
    // Each message beyond the burst is refused once, and waits once.
    expect(verdicts.filter(({ did }) => did === 'paused')).toHaveLength(40);
    expect(socket.isPaused).toBe(false);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('A pausing guard', () => {
  test('closes with 1013 for a pause above maxPauseSeconds, which is no offence', () => {
    const expulsions = new OrderbookRateLimiter({ interval: 60 });
    const { connect, verdicts } = guardedVirtually({
      messages: { limiter: limiterOf({ rateLimit: 0.1, burstLimit: 1 }) },
      onDelay: 'pause',
      maxPauseSeconds: 5,
      expulsions,
    });
    const socket = connect();
    socket.receive('a', 'b');
    expect(socket.closes).toEqual([[1013, 'rate limit exceeded, try again later']]);
    expect(socket.received).toEqual(['a']);
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'pause', action: 'delay' });
    expect(expulsions.getStatistics().trackedPeers).toBe(0);
  });

  test('closes with 1008 for a message above the burst, which would never pass', () => {
    const { connect } = guardedVirtually({
      messages: { limiter: limiterOf({ burstLimit: 10 }), cost: 'bytes' },
      onDelay: 'pause',
    });
    const socket = connect();
    socket.receive('12345678901');
    expect(socket.closes).toEqual([[1008, 'message above the rate limit']]);
    expect(socket.received).toEqual([]);
  });

  test('keeps nothing of a connection that closes during a pause', async () => {
    const limiter = limiterOf({ rateLimit: 5, burstLimit: 1 });
    const { connect, guard } = guardedVirtually({ messages: { limiter }, onDelay: 'pause' });
    const socket = connect();
    socket.receive('a', 'b', 'c');
    expect(socket.isPaused).toBe(true);
    socket.terminate();
    expect([guard.connections, vi.getTimerCount()]).toEqual([0, 0]);
    await passing(60);
    expect(socket.received).toEqual(['a']);
    expect(limiter.getStats().trackedPeers).toBe(0);
  });

  test('delivers a held message once if its cost closes the guard', async () => {
    const limiter = limiterOf({ rateLimit: 1, burstLimit: 1 });
    let asked = 0;
    const cost = () => {
      asked += 1;
      // The third question is about the held message.
      if (asked === 3) guard.close();
      return 1;
    };
    const { connect, guard } = guardedVirtually({ messages: { limiter, cost }, onDelay: 'pause' });
    const socket = connect();
    socket.receive('a', 'b');
    await passing(2);
    expect(asked).toBe(3);
    expect(socket.received).toEqual(['a', 'b']);
  });

  test('stays paused if only the user resumes, or if only the limit allows more', async () => {
    const limiter = limiterOf({ rateLimit: 10, burstLimit: 1 });
    const { connect } = guardedVirtually({ messages: { limiter }, onDelay: 'pause' });
    const socket = connect();
    socket.receive('a', 'b');
    expect(socket.isPaused).toBe(true);
    socket.resume();
    expect(socket.isPaused).toBe(true);
    socket.pause();
    await passing(60);
    expect(socket.received).toEqual(['a']);
    expect(socket.isPaused).toBe(true);
    socket.resume();
    expect(socket.received).toEqual(['a', 'b']);
    expect(socket.isPaused).toBe(false);
  });

  test('stops delivering if the user pauses among waiting messages', async () => {
    const limiter = limiterOf({ rateLimit: 50, burstLimit: 1 });
    const { connect } = guardedVirtually({ messages: { limiter }, onDelay: 'pause' });
    const socket = connect();
    socket.on('message', (data) => {
      if (String(data) === 'b') socket.pause();
    });
    socket.receive('a', 'b', 'c', 'd');
    await passing(60);
    expect(socket.received).toEqual(['a', 'b']);
    socket.resume();
    await passing(60);
    expect(socket.received).toEqual(['a', 'b', 'c', 'd']);
  });

  test('passes a bucket on if the user has paused the first connection in its queue', async () => {
    const limiter = limiterOf({ rateLimit: 20, burstLimit: 1 });
    const { connect } = guardedVirtually({
      messages: { limiter, key: 'address' },
      onDelay: 'pause',
    });
    const [first, second] = [connect(), connect()];
    first.receive('a', 'b');
    first.pause();
    second.receive('c');
    await passing(60);
    expect([first.received, second.received]).toEqual([['a'], ['c']]);
    first.resume();
    expect(first.received).toEqual(['a', 'b']);
  });

  test('serves the connections of one bucket in turn, without extra refusals', async () => {
    const limiter = limiterOf({ rateLimit: 100, burstLimit: 5, disconnectThreshold: 60 });
    const { connect, verdicts } = guardedVirtually({
      messages: { limiter, key: 'address' },
      onDelay: 'pause',
    });
    const sockets = Array.from({ length: 10 }, () => connect());
    const order: number[] = [];
    for (const [n, socket] of sockets.entries()) socket.on('message', () => order.push(n));
    for (const socket of sockets) socket.receive(...numbers(5));
    await passing(10);
    for (const socket of sockets) expect(socket.received).toEqual(numbers(5));
    // The first connection took the burst; the others pass one after the other.
    const others = [1, 2, 3, 4, 5, 6, 7, 8, 9];
    expect(order).toEqual([0, 0, 0, 0, 0, ...others, ...others, ...others, ...others, ...others]);
    expect(verdicts.filter(({ did }) => did === 'closed')).toEqual([]);
    // Each message beyond the burst is one violation.
    expect(limiter.getViolationCount('192.0.2.1')).toBe(45);
  });

  test('closes a connection that waits in a queue for longer than maxPauseSeconds', async () => {
    const limiter = limiterOf({ rateLimit: 4, burstLimit: 1 });
    const { connect, verdicts } = guardedVirtually({
      messages: { limiter, key: 'address' },
      onDelay: 'pause',
      maxPauseSeconds: 0.4,
    });
    const sockets = Array.from({ length: 6 }, () => connect());
    for (const socket of sockets) socket.receive('a');
    await passing(60);
    expect(sockets.map(({ received }) => received.length)).toEqual([1, 1, 0, 0, 0, 0]);
    expect(sockets.map(({ closes }) => closes[0]?.[0])).toEqual([
      undefined,
      undefined,
      1013,
      1013,
      1013,
      1013,
    ]);
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'backlog' });
  });

  test('closes with 1013 if messages of one chunk cannot pass in time, then terminates', async () => {
    const expulsions = new OrderbookRateLimiter({ interval: 60 });
    const { connect, guard } = guardedVirtually({
      messages: { limiter: limiterOf({ rateLimit: 10, burstLimit: 1 }) },
      onDelay: 'pause',
      maxPauseSeconds: 0.35,
      closeGraceSeconds: 0.1,
      expulsions,
    });
    const socket = connect();
    socket.receive(...numbers(1000));
    await passing(0.36);
    // The burst passes, and then one message per tenth of a second.
    expect(socket.received).toEqual(['0', '1', '2', '3']);
    expect(socket.closes).toEqual([[1013, 'too many messages at once']]);
    expect(guard.connections).toBe(1);
    await passing(0.1);
    expect(guard.connections).toBe(0);
    expect(expulsions.getStatistics().trackedPeers).toBe(0);
  });

  test('drops waiting messages if the user closes during a pause', async () => {
    const { connect } = guardedVirtually({
      messages: { limiter: limiterOf({ rateLimit: 1, burstLimit: 1 }) },
      onDelay: 'pause',
    });
    const socket = connect();
    socket.receive('a', 'b', 'c');
    socket.close(1000, 'done');
    // A paused socket would not read the peer's answer.
    expect(socket.isPaused).toBe(false);
    await passing(60);
    expect(socket.received).toEqual(['a']);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('keeps at most 256 KB of waiting messages, including the overhead of each', () => {
    const options = { messages: { limiter: few(1) }, maxPauseSeconds: 2000 };
    const { connect, verdicts } = guardedVirtually({ ...options, onDelay: 'pause' });
    const socket = connect();
    const most = Math.floor((256 << 10) / 150);
    // One more message passes, and one more is held.
    socket.receive(...Array.from({ length: 2 + most }, () => ''));
    expect(socket.closes).toEqual([]);
    socket.receive('');
    expect(socket.closes).toEqual([[1013, 'too many messages at once']]);
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'backlog' });
  });

  describe('with pongs, which always reach the server,', () => {
    const pausing = (options: RateLimiterOptions, maxPauseSeconds = 30) => {
      const limiter = limiterOf(options);
      const { connect, verdicts, guard } = guardedVirtually({
        messages: { limiter },
        onDelay: 'pause',
        maxPauseSeconds,
      });
      const socket = connect();
      const pongs: string[] = [];
      socket.on('pong', (data) => pongs.push(String(data)));
      const pong = (...texts: readonly string[]) => {
        for (const text of texts) socket.emit('pong', Buffer.from(text));
      };
      return { limiter, socket, pongs, pong, verdicts, guard };
    };

    test('delivers each, and resumes reading when the limit has allowed all of them', async () => {
      const { socket, pongs, pong, verdicts } = pausing({ rateLimit: 10, burstLimit: 2 });
      pong('1', '2');
      expect(socket.isPaused).toBe(false);
      pong('3', '4', '5');
      socket.receive('a');
      expect(pongs).toEqual(['1', '2', '3', '4', '5']);
      expect([socket.isPaused, socket.received]).toEqual([true, []]);
      // Each of three pongs waits for 0.1 seconds, and then the message for another 0.1 seconds.
      await passing(0.35);
      expect([socket.isPaused, socket.received]).toEqual([true, []]);
      await passing(0.1);
      expect([socket.isPaused, socket.received]).toEqual([false, ['a']]);
      expect(pongs).toHaveLength(5);
      expect(verdicts.filter(({ kind }) => kind === 'pong').map(({ did }) => did)).toEqual(
        Array(5).fill('passed'),
      );
    });

    test('resumes reading after maxPauseSeconds at the latest, without closing', async () => {
      const { socket, pongs, pong } = pausing({ rateLimit: 0.001, burstLimit: 1 }, 5);
      pong('1', '2', '3');
      await passing(4.9);
      expect(socket.isPaused).toBe(true);
      await passing(0.2);
      expect([socket.isPaused, socket.closes, pongs]).toEqual([false, [], ['1', '2', '3']]);
    });

    test('closes for more pongs in one chunk than it keeps', () => {
      const { socket, pong, verdicts } = pausing({ rateLimit: 1, burstLimit: 1 });
      pong(...Array(1800).fill(''));
      expect(socket.closes).toEqual([[1013, 'too many messages at once']]);
      expect(verdicts.at(-1)).toMatchObject({ kind: 'pong', did: 'closed', reason: 'backlog' });
    });

    test('delivers none twice when the guard is closed', () => {
      const { socket, pongs, pong, guard } = pausing({ rateLimit: 1, burstLimit: 1 });
      pong('1', '2', '3');
      socket.receive('a');
      guard.close();
      expect([pongs, socket.received]).toEqual([['1', '2', '3'], ['a']]);
      expect(socket.isPaused).toBe(false);
    });

    test('waits in turn with other connections of the bucket', async () => {
      const limiter = limiterOf({ rateLimit: 10, burstLimit: 1 });
      const { connect, verdicts } = guardedVirtually({
        messages: { limiter, key: 'address' },
        onDelay: 'pause',
        maxPauseSeconds: 0.15,
      });
      const [first, second, third] = [connect(), connect(), connect()];
      for (const socket of [first, second, third]) socket.emit('pong', Buffer.alloc(0));
      // The second waits for its token, the third waits behind it for at most maxPauseSeconds.
      expect([first, second, third].map(({ isPaused }) => isPaused)).toEqual([false, true, true]);
      await passing(0.16);
      expect([second, third].map(({ isPaused }) => isPaused)).toEqual([false, false]);
      expect(verdicts.filter(({ did }) => did === 'closed')).toEqual([]);
    });
  });

  test('drops waiting messages if the user terminates during a pause', async () => {
    const { connect } = guardedVirtually({
      messages: { limiter: limiterOf({ rateLimit: 10, burstLimit: 1 }) },
      onDelay: 'pause',
    });
    // The terminate() of ws emits 'close' later.
    const terminate = vi.spyOn(FakeSocket.prototype, 'terminate').mockImplementation(() => {});
    const socket = connect();
    socket.receive('a', 'b', 'c');
    socket.terminate();
    await passing(60);
    expect(socket.received).toEqual(['a']);
    terminate.mockRestore();
  });
});
