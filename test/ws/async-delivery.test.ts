// A limiter of deliveries that answers by a promise: what waits for it, in which order, and how much.

import { RateLimitAction } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import type { WebSocket } from 'ws';
import { slowLimiter } from '../support/slow-limiter.js';
import { type FakeSocket, guardedVirtually } from './virtual.js';

/** What a waiting message counts besides its data. */
const OVERHEAD = 512;

function serve(options: Parameters<typeof guardedVirtually>[0] = {}) {
  const limiter = slowLimiter();
  const errors: unknown[] = [];
  const { delivery, ...others } = options;
  const served = guardedVirtually({
    delivery: { limiter, ...delivery },
    onError: (error) => errors.push(error),
    ...others,
  });
  const send = (socket: FakeSocket, text: string, cost?: number) =>
    served.guard.send(socket as unknown as WebSocket, text, { cost });
  const group = (...sockets: FakeSocket[]) => served.guard.group(sockets as unknown as WebSocket[]);
  const dropped = () =>
    served.verdicts
      .filter(({ kind }) => kind === 'delivery')
      .map(({ did, reason, data }) => [did, reason, String(data)]);
  return { ...served, limiter, errors, send, group, dropped };
}

describe('While a limiter checks a message, guard.send', () => {
  test('sends nothing, and afterwards what is allowed', async () => {
    const { connect, send, limiter, guard, dropped } = serve();
    const socket = connect();
    expect(['a', 'b', 'c'].map((text) => send(socket, text))).toEqual([true, true, true]);
    expect([socket.stream.texts, limiter.asked]).toEqual([[], 3]);
    await limiter.answer('allow');
    expect(socket.stream.texts).toEqual(['a']);
    await limiter.answer('delay', 5);
    await limiter.answer('allow');
    expect(socket.stream.texts).toEqual(['a', 'c']);
    expect(dropped()).toEqual([['dropped', 'rate', 'b']]);
    expect(guard.deliveries).toEqual({ sent: 2, droppedSlow: 0, droppedRate: 1, closedSlow: 0 });
  });

  test('keeps the order if later messages are allowed first, or are not checked', async () => {
    const answers: ((answer: [RateLimitAction, number, null]) => void)[] = [];
    const limiter = {
      rateLimit: 1,
      burstLimit: 1,
      removePeer() {},
      checkWithTokens: () =>
        new Promise<[RateLimitAction, number, null]>((resolve) => answers.push(resolve)),
    };
    const { connect, send } = serve({ delivery: { limiter } });
    const socket = connect();
    send(socket, 'a');
    send(socket, 'b');
    expect(send(socket, 'free', 0)).toBe(true);
    answers[1]?.([RateLimitAction.ALLOW, 0, null]);
    await new Promise(setImmediate);
    expect(socket.stream.texts).toEqual([]);
    answers[0]?.([RateLimitAction.ALLOW, 0, null]);
    await new Promise(setImmediate);
    expect(socket.stream.texts).toEqual(['a', 'b', 'free']);
  });

  test('lets at most maxBufferedBytes and one message wait, and asks for no more', async () => {
    const maxBufferedBytes = 2 * (OVERHEAD + 1);
    const { connect, send, limiter, guard, dropped } = serve({ delivery: { maxBufferedBytes } });
    const socket = connect();
    expect(['a', 'b', 'c'].map((text) => send(socket, text))).toEqual([true, true, false]);
    expect([limiter.asked, dropped()]).toEqual([2, [['dropped', 'slow', 'c']]]);
    await limiter.answer('allow');
    expect(send(socket, 'd')).toBe(true);
    await limiter.answer('allow');
    await limiter.answer('allow');
    expect(socket.stream.texts).toEqual(['a', 'b', 'd']);
    expect(guard.deliveries).toMatchObject({ sent: 3, droppedSlow: 1 });
  });

  test('drops what is allowed when the peer has become slow, or closes', async () => {
    const { connect, send, limiter, dropped } = serve({
      delivery: { maxBufferedBytes: 3 * OVERHEAD, onSlow: 'close' },
    });
    const socket = connect();
    socket.stream.isRead = false;
    expect([send(socket, 'a'), send(socket, 'b')]).toEqual([true, true]);
    socket.stream.writableLength = 3 * OVERHEAD;
    await limiter.answer('allow');
    expect([socket.closes[0]?.[0], dropped()]).toEqual([1013, [['closed', 'slow', 'a']]]);
    await limiter.answer('allow');
    expect([socket.stream.sent, dropped().length]).toEqual([[], 1]);
  });

  test('drops what waits when the connection closes, and ignores the answer', async () => {
    const { connect, send, limiter, guard, dropped } = serve();
    const socket = connect();
    send(socket, 'a');
    socket.terminate();
    await limiter.answer('allow');
    expect([socket.stream.texts, dropped()]).toEqual([[], []]);
    expect([guard.deliveries.sent, limiter.removed.length]).toEqual([0, 1]);
  });

  test('sends what waits at once when the guard is closed, once', async () => {
    const { connect, send, limiter, guard } = serve();
    const socket = connect();
    send(socket, 'a');
    send(socket, 'b');
    guard.close();
    expect(socket.stream.texts).toEqual(['a', 'b']);
    await limiter.answer('disconnect');
    await limiter.answer('allow');
    expect(socket.stream.texts).toEqual(['a', 'b']);
  });

  test('drops a message if the limiter rejects, and reports the error', async () => {
    const { connect, send, limiter, errors, dropped } = serve();
    const socket = connect();
    send(socket, 'a');
    send(socket, 'b');
    const error = new Error('no memory');
    await limiter.fail(error);
    await limiter.answer('allow');
    expect([errors, dropped(), socket.stream.texts]).toEqual([
      [error],
      [['dropped', 'error', 'a']],
      ['b'],
    ]);
  });

  test('stays in order if onVerdict sends again', async () => {
    const { connect, send, limiter } = serve({
      onVerdict: ({ kind, socket }) => {
        if (kind === 'delivery') send(socket as unknown as FakeSocket, 'sorry', 0);
      },
    });
    const socket = connect();
    send(socket, 'a');
    send(socket, 'b');
    await limiter.answer('delay', 1);
    expect(socket.stream.texts).toEqual([]);
    await limiter.answer('allow');
    expect(socket.stream.texts).toEqual(['b', 'sorry']);
  });
});

test('A group checks each of its members, and counts those whose message waits', async () => {
  const { connect, group, limiter, guard } = serve();
  const [first, second] = [connect(), connect()];
  expect(group(first, second).send('news')).toBe(2);
  expect([limiter.asked, first.stream.texts]).toEqual([2, []]);
  await limiter.answer('delay', 1);
  await limiter.answer('allow');
  expect([first.stream.texts, second.stream.texts]).toEqual([[], ['news']]);
  expect(guard.deliveries).toMatchObject({ sent: 1, droppedRate: 1 });
});

test('A limiter that knows the answer makes nothing wait', () => {
  const checkLocally = () => [RateLimitAction.ALLOW, 0, 1] as const;
  const limiter = Object.assign(slowLimiter(), { checkLocally });
  const { connect, send, guard } = serve({ delivery: { limiter }, messages: { limiter } });
  const socket = connect();
  expect(send(socket, 'a')).toBe(true);
  expect(socket.stream.texts).toEqual(['a']);
  socket.pause = () => expect.unreachable();
  socket.receive('b', 'c');
  expect([socket.received, limiter.asked, guard.getStats().messages.passed]).toEqual([
    ['b', 'c'],
    0,
    2,
  ]);
});
