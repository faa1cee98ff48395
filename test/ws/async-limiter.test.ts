// Limiters of messages and of connections that answer by promises: what waits, in which order, and which late answers have
// no effect. Each answer comes when the test gives it.

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { slowLimiter } from '../support/slow-limiter.js';
import { guardedVirtually } from './virtual.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'hrtime'] }));
afterEach(() => void vi.useRealTimers());

const passing = (seconds: number) => vi.advanceTimersByTimeAsync(seconds * 1000);

describe('While a limiter checks a message, a guard', () => {
  test('keeps the further ones in order, and checks them one after the other', async () => {
    const limiter = slowLimiter();
    const { connect, verdicts } = guardedVirtually({ messages: { limiter } });
    const socket = connect();
    socket.receive('a', 'b', 'c');
    expect([socket.received, socket.isPaused, limiter.asked]).toEqual([[], true, 1]);
    await limiter.answer('allow');
    expect([socket.received, socket.isPaused, limiter.asked]).toEqual([['a'], true, 2]);
    await limiter.answer('delay', 5);
    expect([socket.received, socket.isPaused, limiter.asked]).toEqual([['a'], true, 3]);
    await limiter.answer('allow');
    expect([socket.received, socket.isPaused]).toEqual([['a', 'c'], false]);
    expect(verdicts.slice(1).map(({ did, delaySeconds }) => [did, delaySeconds])).toEqual([
      ['passed', 0],
      ['dropped', 5],
      ['passed', 0],
    ]);
  });

  test('does not check it by the limiters behind until the answer has come', async () => {
    const [first, second] = [slowLimiter(), slowLimiter()];
    const messages = [{ limiter: first }, { limiter: second, cost: () => 3 }];
    const { connect } = guardedVirtually({ messages });
    const socket = connect();
    socket.receive('a');
    expect([first.asked, second.asked]).toEqual([1, 0]);
    await first.answer('allow');
    expect([first.asked, second.asked, second.costs]).toEqual([1, 1, [3]]);
    await second.answer('allow');
    expect(socket.received).toEqual(['a']);
    socket.receive('b');
    await first.answer('delay', 1);
    expect([second.asked, socket.received, socket.isPaused]).toEqual([1, ['a'], false]);
  });

  test('delivers pongs at once, and none of them twice', async () => {
    const limiter = slowLimiter();
    const { connect } = guardedVirtually({ messages: { limiter } });
    const socket = connect();
    const pongs: string[] = [];
    socket.on('pong', (data) => pongs.push(String(data)));
    for (const text of ['1', '2']) socket.emit('pong', Buffer.from(text));
    expect([pongs, socket.isPaused]).toEqual([['1', '2'], true]);
    await limiter.answer('allow');
    await limiter.answer('delay', 1);
    expect([pongs, socket.isPaused]).toEqual([['1', '2'], false]);
  });

  test('delivers it when the guard is closed, and ignores the answer', async () => {
    const limiter = slowLimiter();
    const { connect, guard, verdicts } = guardedVirtually({ messages: { limiter } });
    const socket = connect();
    socket.receive('a', 'b');
    guard.close();
    expect([socket.received, socket.isPaused]).toEqual([['a', 'b'], false]);
    await limiter.answer('disconnect', 1);
    expect([socket.received, socket.closes, verdicts.length]).toEqual([['a', 'b'], [], 1]);
  });

  test('ignores the answer of a connection that was expelled or has closed', async () => {
    const limiter = slowLimiter();
    const { connect, guard, verdicts } = guardedVirtually({ messages: { limiter } });
    const [expelled, closed] = [connect(), connect()];
    for (const socket of [expelled, closed]) socket.receive('a', 'b');
    guard.expel(expelled as never);
    closed.terminate();
    expect([expelled.isPaused, expelled.closes.length, guard.connections]).toEqual([false, 1, 1]);
    for (let n = 0; n < 2; n += 1) await limiter.answer('allow');
    expect([expelled.received, closed.received, limiter.asked]).toEqual([[], [], 2]);
    expect(verdicts.filter(({ kind }) => kind === 'message')).toEqual([]);
    expect(limiter.removed).toHaveLength(1);
  });

  test('drops it if the user closes the connection', async () => {
    const limiter = slowLimiter();
    const { connect } = guardedVirtually({ messages: { limiter } });
    const socket = connect();
    socket.receive('a', 'b');
    socket.close(1000);
    expect(socket.isPaused).toBe(false);
    await limiter.answer('allow');
    expect([socket.received, limiter.asked]).toEqual([[], 1]);
  });

  test('delivers it when the user resumes, if the user has paused the connection', async () => {
    const limiter = slowLimiter();
    const { connect } = guardedVirtually({ messages: { limiter } });
    const socket = connect();
    socket.receive('a', 'b');
    socket.pause();
    await limiter.answer('allow');
    expect([socket.received, limiter.asked]).toEqual([[], 1]);
    socket.resume();
    expect([socket.received, socket.isPaused, limiter.asked]).toEqual([['a'], true, 2]);
    await limiter.answer('allow');
    expect([socket.received, socket.isPaused]).toEqual([['a', 'b'], false]);
  });

  test('keeps at most 256 KB of messages', async () => {
    const limiter = slowLimiter();
    const { connect, verdicts } = guardedVirtually({ messages: { limiter } });
    const socket = connect();
    const most = Math.floor((256 << 10) / 150);
    socket.receive(...Array.from({ length: 1 + most }, () => ''));
    expect(socket.closes).toEqual([]);
    socket.receive('');
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'backlog' });
    await limiter.answer('allow');
    expect(socket.received).toEqual([]);
  });
});

describe('The answer of a limiter', () => {
  test('that disconnects closes with 1008', async () => {
    const limiter = slowLimiter();
    const { connect, verdicts } = guardedVirtually({ messages: { limiter } });
    const socket = connect();
    socket.receive('a', 'b');
    await limiter.answer('disconnect', 7);
    expect(socket.closes).toEqual([[1008, 'rate limit exceeded']]);
    expect(verdicts.at(-1)).toMatchObject({ reason: 'disconnect', delaySeconds: 7 });
    expect([socket.received, limiter.asked]).toEqual([[], 1]);
  });

  test('that is an error closes with 1011, which is told onError', async () => {
    const limiter = slowLimiter();
    const errors: unknown[] = [];
    const onError = (error: unknown) => errors.push(error);
    const { connect, verdicts } = guardedVirtually({ messages: { limiter }, onError });
    const socket = connect();
    socket.receive('a');
    await limiter.fail(new Error('no store'));
    expect(socket.closes).toEqual([[1011, 'internal error']]);
    expect(errors).toEqual([new Error('no store')]);
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'error' });
  });

  test('that comes after a cost has closed the guard is ignored, and so is an error', async () => {
    const limiter = slowLimiter();
    const cost = () => {
      guard.close();
      return 1;
    };
    const { connect, guard } = guardedVirtually({ messages: { limiter, cost } });
    const socket = connect();
    socket.receive('a');
    expect(socket.received).toEqual(['a']);
    await limiter.fail(new Error('no store'));
    expect(socket.received).toEqual(['a']);
  });

  test('that delays lets the message wait and asks again when the time has come', async () => {
    const limiter = slowLimiter();
    const { connect, verdicts } = guardedVirtually({ messages: { limiter }, onDelay: 'pause' });
    const socket = connect();
    socket.receive('a', 'b');
    await limiter.answer('delay', 2);
    expect([limiter.asked, socket.isPaused]).toEqual([1, true]);
    await passing(1.9);
    expect(limiter.asked).toBe(1);
    await passing(0.2);
    expect([limiter.asked, socket.received]).toEqual([2, []]);
    await limiter.answer('allow');
    expect([socket.received, limiter.asked]).toEqual([['a'], 3]);
    await limiter.answer('allow');
    expect([socket.received, socket.isPaused]).toEqual([['a', 'b'], false]);
    expect(verdicts.slice(1).map(({ did }) => did)).toEqual(['paused', 'passed', 'passed']);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('keeps the place of a connection in the queue for its bucket', async () => {
    const limiter = slowLimiter();
    const messages = { limiter, key: 'address' } as const;
    const { connect } = guardedVirtually({ messages, onDelay: 'pause' });
    const [first, second] = [connect(), connect()];
    first.receive('a');
    await limiter.answer('delay', 1);
    second.receive('b');
    expect(limiter.asked).toBe(1);
    await passing(1.1);
    // The first asks again, and the second still waits behind it.
    expect(limiter.asked).toBe(2);
    await limiter.answer('allow');
    expect([first.received, second.received, limiter.asked]).toEqual([['a'], [], 3]);
    await limiter.answer('allow');
    expect(second.received).toEqual(['b']);
  });

  test('leaves the queue to others if the user has paused the connection meanwhile', async () => {
    const limiter = slowLimiter();
    const messages = { limiter, key: 'address' } as const;
    const { connect } = guardedVirtually({ messages, onDelay: 'pause' });
    const [first, second] = [connect(), connect()];
    first.receive('a');
    await limiter.answer('delay', 1);
    second.receive('b');
    await passing(1.1);
    first.pause();
    await limiter.answer('allow');
    expect([first.received, limiter.asked]).toEqual([[], 3]);
    await limiter.answer('allow');
    expect(second.received).toEqual(['b']);
    first.resume();
    expect([first.received, first.isPaused]).toEqual([['a'], false]);
  });
});

describe('While a limiter checks a connection, a guard', () => {
  const limited = (options: object = {}) => {
    const limiter = slowLimiter();
    const connections = { limiter, ...options };
    return { limiter, ...guardedVirtually({ connections }) };
  };

  test('delays the upgrade, and answers 429 to a refusal', async () => {
    const { limiter, connect, upgraded, answers, verdicts } = limited();
    for (let n = 0; n < 2; n += 1) expect(connect()).toBeUndefined();
    expect([upgraded.length, answers.length, verdicts.length]).toEqual([0, 0, 0]);
    await limiter.answer('delay', 9);
    expect(answers).toEqual([{ status: 429, retryAfter: '9' }]);
    await limiter.answer('allow');
    expect([upgraded.length, answers.length]).toEqual([1, 1]);
    expect(verdicts.map(({ did, reason }) => [did, reason])).toEqual([
      ['refused', 'rate'],
      ['passed', undefined],
    ]);
  });

  test('counts it as open, but not if it is refused', async () => {
    const { limiter, connect, answers, upgraded } = limited({ maxPerAddress: 1 });
    for (let n = 0; n < 2; n += 1) connect();
    expect([answers.length, limiter.asked]).toEqual([1, 1]);
    await limiter.answer('delay', 1);
    connect();
    expect(limiter.asked).toBe(2);
    await limiter.fail(new Error('no store'));
    connect();
    await limiter.answer('allow');
    expect(upgraded).toHaveLength(1);
    connect();
    expect(limiter.asked).toBe(3);
    upgraded[0]?.stream.emit('close');
    connect();
    expect(limiter.asked).toBe(4);
  });

  test('lets it pass if the guard is closed, and ignores the answer', async () => {
    const { limiter, connect, guard, upgraded, answers, verdicts } = limited();
    connect();
    guard.close();
    await limiter.answer('disconnect', 60);
    expect([upgraded.length, answers, verdicts]).toEqual([1, [], []]);
  });

  test('answers 503 if the limiter fails', async () => {
    const limiter = slowLimiter();
    const errors: unknown[] = [];
    const onError = (error: unknown) => errors.push(error);
    const { connect, answers, verdicts } = guardedVirtually({ connections: { limiter }, onError });
    connect();
    await limiter.fail(new Error('no store'));
    expect([answers, errors]).toEqual([
      [{ status: 503, retryAfter: undefined }],
      [new Error('no store')],
    ]);
    expect(verdicts).toMatchObject([{ did: 'refused', reason: 'error' }]);
  });
});
