// What a guard sends to connections: the exact bounds of what waits, slow connections, and their counts. The fake peers
// read only when a test says so.

import { OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import type { WebSocketVerdict } from 'relay-limiter/ws';
import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { WebSocket } from 'ws';
import { seeded } from '../support/random.js';
import { printSeedOnFailure, SEED } from '../support/seed.js';
import { FakeSocket, guardedVirtually } from './virtual.js';

vi.hoisted(() => vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));

beforeEach(() => vi.clearAllTimers());
afterAll(() => void vi.useRealTimers());

const asWebSocket = (socket: FakeSocket) => socket as unknown as WebSocket;
/** A text whose frame has a number of bytes, up to 127. */
const textOf = (frameBytes: number) => 'x'.repeat(frameBytes - 2);
/** What a waiting message counts besides its frame. */
const OVERHEAD = 512;

/** A guarded server; its connections do not read. */
function serve(options: Parameters<typeof guardedVirtually>[0] = {}) {
  const served = guardedVirtually({ closeGraceSeconds: 3, ...options });
  const connect = () => {
    const socket = served.connect();
    socket.stream.isRead = false;
    return socket;
  };
  const send = (socket: FakeSocket, text: string) => served.guard.send(asWebSocket(socket), text);
  const deliveries = () =>
    served.verdicts.filter(({ kind }: WebSocketVerdict) => kind === 'delivery');
  return { ...served, connect, send, deliveries };
}

describe('guard.send', () => {
  test('sends text, and bytes as a binary message, each in one frame', () => {
    const { guard, connect } = serve();
    const socket = connect();
    socket.stream.isRead = true;
    expect(guard.send(asWebSocket(socket), 'zwölf')).toBe(true);
    expect(guard.send(asWebSocket(socket), Buffer.from([1, 2]))).toBe(true);
    expect(guard.send(asWebSocket(socket), new Uint8Array([1, 2, 3]).buffer)).toBe(true);
    expect(guard.send(asWebSocket(socket), Buffer.from('a'), { binary: false })).toBe(true);
    expect(guard.send(asWebSocket(socket), '')).toBe(true);
    expect(socket.stream.sent.map((frame) => [...frame])).toEqual([
      [0x81, 6, ...Buffer.from('zwölf')],
      [0x82, 2, 1, 2],
      [0x82, 3, 1, 2, 3],
      [0x81, 1, 97],
      [0x81, 0],
    ]);
  });

  test('counts in getStats of the guard, with the slow connections that it closed', () => {
    const { guard, connect, send } = serve({ delivery: { maxBufferedBytes: 1, onSlow: 'close' } });
    const socket = connect();
    expect([send(socket, 'a'), send(socket, 'b')]).toEqual([true, false]);
    expect(guard.getStats()).toMatchObject({
      connections: { closed: { slow: 1 } },
      deliveries: { sent: 1, droppedSlow: 1, droppedRate: 0 },
    });
  });

  test('drops a message from exactly maxBufferedBytes on, with 512 for each message that waits', () => {
    // The first message waits alone, and counts its bytes; the second one has 512 more.
    for (const [maxBufferedBytes, most] of [
      [1, 1],
      [100, 1],
      [101, 2],
      [200 + OVERHEAD, 2],
      [201 + OVERHEAD, 3],
      [300 + 2 * OVERHEAD, 3],
      [301 + 2 * OVERHEAD, 4],
    ] as const) {
      const { connect, send } = serve({ delivery: { maxBufferedBytes } });
      const socket = connect();
      const sent = Array.from({ length: 6 }, () => send(socket, textOf(100)));
      expect([maxBufferedBytes, sent.filter(Boolean).length]).toEqual([maxBufferedBytes, most]);
      expect(sent.indexOf(false)).toBe(most);
    }
  });

  test('lets 1 MiB wait by default', () => {
    const { guard, connect } = serve();
    const socket = connect();
    const send = (length: number) => guard.send(asWebSocket(socket), Buffer.alloc(length));
    expect(send(0)).toBe(true);
    // Its frame has a header of 10 bytes.
    expect(send(2 ** 20 - 1 - 2 - OVERHEAD - 10)).toBe(true);
    expect(socket.bufferedAmount).toBe(2 ** 20 - 1 - OVERHEAD);
    expect(send(0)).toBe(true);
    expect(send(0)).toBe(false);
  });

  test('never lets more wait than maxBufferedBytes and one message, whatever their sizes', () => {
    printSeedOnFailure();
    const random = seeded(SEED);
    const maxBufferedBytes = 5_000;
    const { guard, connect } = serve({ delivery: { maxBufferedBytes } });
    const socket = connect();
    const sent: string[] = [];
    for (let n = 0; n < 2_000; n += 1) {
      const text = `${n} ${'x'.repeat(random.below(100))}`;
      const isEmpty = socket.bufferedAmount === 0;
      const isSent = guard.send(asWebSocket(socket), text);
      if (isSent) sent.push(text);
      expect(isSent || !isEmpty).toBe(true);
      expect(socket.bufferedAmount).toBeLessThanOrEqual(maxBufferedBytes + 127);
      if (random() < 0.4) socket.stream.read(random.below(4));
    }
    socket.stream.read();
    expect(socket.stream.texts).toEqual(sent);
    expect(sent.length).toBeLessThan(2_000);
    expect(sent.length).toBeGreaterThan(100);
  });

  test('keeps no more memory than its frame for a message that waits', () => {
    const { connect, send } = serve();
    const socket = connect();
    for (const text of ['first', 'second', 'third']) send(socket, text);
    socket.stream.read();
    const [, ...waiting] = socket.stream.sent;
    // Not a slice of Node's pool, which would stay in memory as a whole.
    expect(waiting.map(({ buffer }) => buffer.byteLength)).toEqual([8, 7]);
  });

  test('sends to a connection that has read enough again, in order', () => {
    const { connect, send, guard } = serve({ delivery: { maxBufferedBytes: 20 } });
    const socket = connect();
    const sent = ['first message', 'second message', 'third'].map((text) => send(socket, text));
    expect(sent).toEqual([true, true, false]);
    socket.stream.read(1);
    // 16 bytes and 512 for the message still wait.
    expect(send(socket, 'fourth')).toBe(false);
    socket.stream.read(1);
    expect(send(socket, 'fifth')).toBe(true);
    socket.stream.read();
    expect(socket.stream.texts).toEqual(['first message', 'second message', 'fifth']);
    expect(guard.deliveries).toEqual({ sent: 3, droppedSlow: 2, droppedRate: 0, closedSlow: 0 });
  });

  test('lets as much wait again after the connection has read', () => {
    const { connect, send } = serve({ delivery: { maxBufferedBytes: 201 + OVERHEAD } });
    const socket = connect();
    for (let n = 0; n < 5; n += 1) {
      const sent = Array.from({ length: 4 }, () => send(socket, textOf(100)));
      expect(sent).toEqual([true, true, true, false]);
      socket.stream.read();
    }
  });

  test('sends to a connection that has read everything before Node says so', () => {
    const { connect, send } = serve({ delivery: { maxBufferedBytes: 2 * OVERHEAD } });
    const socket = connect();
    for (let n = 0; n < 4; n += 1) send(socket, 'a');
    socket.stream.readLate();
    expect(send(socket, 'b')).toBe(true);
  });

  test('sends any number of messages in one turn to a peer that reads', () => {
    const { connect, send } = serve({ delivery: { maxBufferedBytes: 2_000 } });
    const socket = connect();
    socket.stream.isRead = true;
    for (let n = 0; n < 1_000; n += 1) expect(send(socket, String(n))).toBe(true);
    socket.stream.isRead = false;
    // Node has not yet said that those are written; they do not count.
    const sent = ['a', 'b', 'c', 'd', 'e', 'f'].map((text) => send(socket, text));
    expect(sent).toEqual([true, true, true, true, true, false]);
    socket.stream.tick();
    expect(send(socket, 'g')).toBe(false);
  });

  test('does not send to a connection that is closing or closed, which counts as nothing', () => {
    const { connect, send, guard, deliveries } = serve({ delivery: { onSlow: 'close' } });
    const [expelled, terminated] = [connect(), connect()];
    guard.expel(asWebSocket(expelled));
    terminated.terminate();
    expect(send(expelled, 'a')).toBe(false);
    expect(send(terminated, 'a')).toBe(false);
    expect(guard.deliveries).toEqual({ sent: 0, droppedSlow: 0, droppedRate: 0, closedSlow: 0 });
    expect(deliveries()).toEqual([]);
  });

  test('reports each dropped message to onVerdict, and none that is sent', () => {
    const { connect, send, deliveries } = serve({ delivery: { maxBufferedBytes: 1 } });
    const socket = connect();
    send(socket, 'sent');
    expect(deliveries()).toEqual([]);
    send(socket, 'dropped');
    expect(deliveries()).toMatchObject([
      {
        kind: 'delivery',
        did: 'dropped',
        reason: 'slow',
        action: 'delay',
        delaySeconds: 0,
        address: '192.0.2.1',
        socket,
        data: Buffer.from('dropped'),
        request: { socket: socket.stream },
      },
    ]);
  });

  test('reports what onVerdict throws to onError, and goes on', () => {
    const errors: unknown[] = [];
    const { connect, send } = serve({
      delivery: { maxBufferedBytes: 1 },
      onVerdict: ({ kind }) => {
        if (kind === 'delivery') throw new Error('mine');
      },
      onError: (error, { socket }) => errors.push([String(error), socket]),
    });
    const socket = connect();
    const sent = ['a', 'b', 'c'].map((text) => send(socket, text));
    expect(sent).toEqual([true, false, false]);
    expect(errors).toEqual([
      ['Error: mine', socket],
      ['Error: mine', socket],
    ]);
  });

  test('reports no message that onVerdict itself could not send', () => {
    const reported: string[] = [];
    const { connect, guard } = serve({
      delivery: { maxBufferedBytes: 1 },
      onVerdict: ({ kind, socket, data }) => {
        if (kind !== 'delivery') return;
        reported.push(String(data));
        guard.send(socket as WebSocket, 'you are slow');
      },
    });
    const socket = connect();
    for (const text of ['a', 'b', 'c']) guard.send(asWebSocket(socket), text);
    expect(reported).toEqual(['b', 'c']);
    expect(guard.deliveries.droppedSlow).toBe(4);
  });

  test('limits a connection that is not guarded too, but never closes or reports it', () => {
    const { guard, send, deliveries } = serve({
      delivery: { maxBufferedBytes: 1, onSlow: 'close' },
    });
    const socket = new FakeSocket();
    socket.stream.isRead = false;
    expect(send(socket, 'a')).toBe(true);
    expect(send(socket, 'b')).toBe(false);
    expect(socket.closes).toEqual([]);
    expect(deliveries()).toEqual([]);
    expect(guard.deliveries).toEqual({ sent: 1, droppedSlow: 1, droppedRate: 0, closedSlow: 0 });
  });

  test('limits nothing after guard.close', () => {
    const { guard, connect, send } = serve({ delivery: { maxBufferedBytes: 1, onSlow: 'close' } });
    const socket = connect();
    guard.close();
    for (const text of ['a', 'b', 'c']) expect(send(socket, text)).toBe(true);
    expect(socket.closes).toEqual([]);
  });

  test('refuses invalid sockets, data and options, and sends nothing', () => {
    const { guard, connect } = serve();
    const socket = asWebSocket(connect());
    const send = guard.send.bind(guard) as (...of: unknown[]) => boolean;
    const refusals: [unknown[], string][] = [
      [[{}, 'a'], "the socket must be a WebSocket of the package 'ws', got an object"],
      [[undefined, 'a'], "the socket must be a WebSocket of the package 'ws', got undefined"],
      [
        [socket, 1],
        'data must be a string, an ArrayBuffer, or a view of one such as a Buffer, got 1',
      ],
      [[socket, 'a', { binary: 1 }], 'binary must be a boolean, got 1'],
      [[socket, 'a', { compress: null }], 'compress must be a boolean, got null'],
      [
        [socket, 'a', { text: 1 }],
        'unknown option "text" of a message; it takes binary, compress, cost',
      ],
    ];
    for (const [args, message] of refusals) {
      const error = { code: 'ERR_LIMITER_OPTION', message };
      expect(() => send(...args)).toThrow(expect.objectContaining(error));
    }
    expect(() => send(socket, 'a', { cost: -1 })).toThrow(
      expect.objectContaining({ code: 'ERR_LIMITER_COST' }),
    );
    expect(socket.bufferedAmount).toBe(0);
  });
});

describe("onSlow: 'close'", () => {
  test('closes a slow connection with 1013, and terminates it after closeGraceSeconds', () => {
    const expulsions = new OrderbookRateLimiter();
    const { connect, send, guard, deliveries } = serve({
      delivery: { maxBufferedBytes: 1, onSlow: 'close' },
      expulsions,
    });
    const socket = connect();
    const closed = vi.fn();
    socket.on('close', closed);
    const sent = ['a', 'b', 'c'].map((text) => send(socket, text));
    expect(sent).toEqual([true, false, false]);
    expect(socket.closes).toEqual([[1013, 'messages are not read fast enough']]);
    expect(deliveries()).toMatchObject([{ did: 'closed', reason: 'slow' }]);
    expect(guard.deliveries).toEqual({ sent: 1, droppedSlow: 1, droppedRate: 0, closedSlow: 1 });
    vi.advanceTimersByTime(2_999);
    expect(closed).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(closed).toHaveBeenCalledOnce();
    expect(guard.connections).toBe(0);
    expect(expulsions.getStatistics().trackedPeers).toBe(0);
  });

  test('leaves other connections open', () => {
    const { connect, send } = serve({ delivery: { maxBufferedBytes: 1, onSlow: 'close' } });
    const [slow, reading] = [connect(), connect()];
    reading.stream.isRead = true;
    for (const text of ['a', 'b', 'c']) {
      send(slow, text);
      send(reading, text);
    }
    expect(slow.closes).toHaveLength(1);
    expect(reading.closes).toEqual([]);
    expect(reading.stream.texts).toEqual(['a', 'b', 'c']);
  });

  test('counts no connection that onVerdict has expelled', () => {
    const { connect, send, guard } = serve({
      delivery: { maxBufferedBytes: 1, onSlow: 'close' },
      onVerdict: ({ kind, socket }) => {
        if (kind === 'delivery') guard.expel(socket as WebSocket, 'mine');
      },
    });
    const socket = connect();
    send(socket, 'a');
    send(socket, 'b');
    expect(socket.closes).toEqual([[1008, 'mine']]);
    expect(guard.deliveries.closedSlow).toBe(0);
  });
});

test('A connection to which the function for a key has sent is guarded as the others', () => {
  const key = (socket: WebSocket) => {
    served.guard.send(socket, 'welcome');
    return 'a';
  };
  const served: ReturnType<typeof serve> = serve({
    messages: { limiter: new RateLimiter(), key },
    delivery: { maxBufferedBytes: 1, onSlow: 'close' },
  });
  const socket = served.connect();
  socket.stream.isRead = false;
  expect(['a', 'b'].map((text) => served.send(socket, text))).toEqual([true, false]);
  expect(served.deliveries()).toMatchObject([{ did: 'closed', reason: 'slow' }]);
  expect(socket.closes).toHaveLength(1);
});

describe('A connection with permessage-deflate', () => {
  function deflating() {
    const served = serve({ delivery: { maxBufferedBytes: 1_000 } });
    const socket = served.connect();
    socket.extensions = 'permessage-deflate';
    const send = (text: string, compress?: boolean) =>
      served.guard.send(asWebSocket(socket), text, { compress });
    return { socket, send, group: served.guard.group([asWebSocket(socket)]) };
  }

  test('gets its messages from ws, which compresses them', () => {
    const { socket, send } = deflating();
    expect(send('a')).toBe(true);
    expect(socket.sends).toMatchObject([{ text: 'a', options: { binary: false, compress: true } }]);
    expect(socket.stream.writableLength).toBe(0);
  });

  test('gets a message without compression in its order', () => {
    const { socket, send } = deflating();
    send('not compressed', false);
    send('compressed');
    send('behind it', false);
    expect(socket.stream.writableLength).toBe(2 + 'not compressed'.length);
    expect(socket.sends).toMatchObject([
      { text: 'compressed', options: { compress: true } },
      { text: 'behind it', options: { compress: false } },
    ]);
  });

  test('gets what is behind an empty message in its order', () => {
    const { socket, send, group } = deflating();
    const texts = () => socket.sends.map(({ text }) => text);
    send('');
    send('', false);
    group.send('behind them', { compress: false });
    expect(texts()).toEqual(['', '', 'behind them']);
    for (const { written } of socket.sends.splice(0)) written?.();
    group.send('direct', { compress: false });
    expect(texts()).toEqual([]);
    socket.stream.read();
    expect(socket.stream.texts).toEqual(['direct']);
  });

  test('is slow because of what waits to be compressed', () => {
    const { socket, send } = deflating();
    const sent = Array.from({ length: 5 }, () => send('x'.repeat(200)));
    // 200, 400 + 512, 600 + 1024
    expect(sent).toEqual([true, true, true, false, false]);
    for (const { written } of socket.sends.splice(0)) written?.();
    expect(send('again')).toBe(true);
  });
});
