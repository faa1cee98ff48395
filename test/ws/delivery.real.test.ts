// Deliveries to real clients, of which some do not read. How much the system's buffers take before anything waits in
// this process is unknown, so each test sends until the guard has dropped messages.

import { randomBytes } from 'node:crypto';
import type { WebSocketGuardOptions } from 'relay-limiter/ws';
import { afterEach, describe, expect, test } from 'vitest';
import type { ServerOptions, WebSocket } from 'ws';
import { until } from '../support/sockets.js';
import { closing, connected, type Guarded, guarded, stopAll } from './support.js';

afterEach(stopAll);

const MAX_BUFFERED = 200_000;
const MESSAGE_BYTES = 60_000;
/** Of a frame, and of compression, which makes random bytes longer. */
const FRAME_BYTES = 100;
/** Messages that may be on their way to a reading client: fewer than the bound, so that it is never slow. */
const WINDOW = 2;

/** Random bytes, so that compression makes them no shorter; the first four are the message's number. */
const CONTENT = randomBytes(MESSAGE_BYTES);
function message(n: number): Buffer {
  CONTENT.writeUInt32BE(n);
  return CONTENT;
}

/** Checks that a message is whole, and returns its number. */
function numberOf(data: Buffer): number {
  const n = data.readUInt32BE();
  expect(data.equals(message(n))).toBe(true);
  return n;
}

interface Client {
  readonly socket: WebSocket;
  /** The connection's other end. */
  readonly served: WebSocket;
  /** The numbers of the messages that it has got. */
  readonly got: number[];
}

async function clientOf({ server, port }: Guarded): Promise<Client> {
  const before = new Set(server.clients);
  const socket = await connected(port);
  const got: number[] = [];
  socket.on('message', (data: Buffer) => got.push(numberOf(data)));
  const [served] = [...server.clients].filter((one) => !before.has(one));
  return { socket, served: served as WebSocket, got };
}

interface Stage extends Guarded {
  readonly slow: Client[];
  readonly readers: Client[];
  /** Sends messages to everybody until `isEnough`; returns their number. */
  publish(isEnough: () => boolean): Promise<number>;
}

/** Two clients that do not read, and three that do. */
async function stage(
  delivery: WebSocketGuardOptions['delivery'],
  serverOptions: ServerOptions = {},
  options: WebSocketGuardOptions = {},
): Promise<Stage> {
  const of = await guarded({ delivery, ...options }, serverOptions);
  const all: Client[] = [];
  for (let n = 0; n < 5; n += 1) all.push(await clientOf(of));
  const [slow, readers] = [all.slice(0, 2), all.slice(2)];
  for (const { socket } of slow) socket.pause();
  const group = of.guard.group(all.map(({ served }) => served));
  let published = 0;
  const publish = async (isEnough: () => boolean) => {
    while (!isEnough()) {
      group.send(message(published));
      published += 1;
      for (const { served } of all) {
        const most = MAX_BUFFERED + MESSAGE_BYTES + FRAME_BYTES;
        expect(served.bufferedAmount).toBeLessThanOrEqual(most);
      }
      await until(() => readers.every(({ got }) => got.length > published - WINDOW));
    }
    await until(() => readers.every(({ got }) => got.length === published));
    return published;
  };
  return { ...of, slow, readers, publish };
}

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

describe.each([
  ['plain', {}],
  ['compressed', { perMessageDeflate: { threshold: 0 } }],
])('Delivery of %s messages', (_, serverOptions) => {
  test('drops messages for clients that do not read, and resumes when they do', async () => {
    const of = await stage({ maxBufferedBytes: MAX_BUFFERED }, serverOptions);
    const { guard, slow, readers, verdicts, publish } = of;
    const published = await publish(() => guard.deliveries.droppedSlow >= 20);
    for (const { got } of readers) expect(got).toEqual(numbers(published));

    for (const { socket } of slow) socket.resume();
    await until(() => slow.every(({ served }) => served.bufferedAmount === 0));
    const total = await publish(() => slow.every(({ got }) => got.includes(published)));
    const dropped = (served: WebSocket) =>
      new Set(
        verdicts
          .filter(({ kind, socket }) => kind === 'delivery' && socket === served)
          .map(({ data }) => numberOf(data as Buffer)),
      );
    for (const { served, got } of slow) {
      const lost = dropped(served);
      expect(lost.size).toBeGreaterThan(0);
      const sent = numbers(total).filter((n) => !lost.has(n));
      await until(() => got.length === sent.length);
      expect(got).toEqual(sent);
    }
    for (const { got } of readers) expect(got).toEqual(numbers(total));
    const { sent, droppedSlow } = guard.deliveries;
    expect(sent + droppedSlow).toBe(5 * total);
  });

  test('terminates clients that do not read a close either', async () => {
    const delivery = { maxBufferedBytes: MAX_BUFFERED, onSlow: 'close' } as const;
    const of = await stage(delivery, serverOptions, { closeGraceSeconds: 0.05 });
    const { guard, slow, readers, publish, verdicts } = of;
    const codes: number[] = [];
    for (const { served } of slow) served.on('close', (code) => codes.push(code));
    const published = await publish(() => guard.deliveries.closedSlow === 2);
    await until(() => codes.length === 2);
    expect(codes).toEqual([1006, 1006]);
    expect(guard.connections).toBe(3);
    for (const { got } of readers) expect(got).toEqual(numbers(published));
    expect(verdicts.filter(({ did }) => did === 'closed').map(({ reason }) => reason)).toEqual([
      'slow',
      'slow',
    ]);
  });

  test('closes with 1013 behind all that was sent, if the client reads in time', async () => {
    const delivery = { maxBufferedBytes: MAX_BUFFERED, onSlow: 'close' } as const;
    const { guard, slow, publish } = await stage(delivery, serverOptions);
    await publish(() => guard.deliveries.closedSlow === 2);
    for (const { socket, got } of slow) {
      const closed = closing(socket);
      socket.resume();
      expect(await closed).toEqual({ code: 1013, reason: 'messages are not read fast enough' });
      expect(got).toEqual(numbers(got.length));
      expect(got.length).toBeGreaterThan(0);
    }
  });
});

test('Delivery frames messages of every length as ws does', async () => {
  const of = await guarded({});
  const { socket, served } = await clientOf(of);
  socket.removeAllListeners('message');
  const got: [length: number, isBinary: boolean][] = [];
  socket.on('message', (data: Buffer, isBinary) => {
    expect(data.equals(Buffer.alloc(data.length, 'ä'))).toBe(true);
    got.push([data.length, isBinary]);
  });
  const lengths = [0, 2, 124, 126, 128, 65_534, 65_536, 65_538, 200_000];
  for (const length of lengths) {
    const data = Buffer.alloc(length, 'ä');
    expect(of.guard.send(served, String(data))).toBe(true);
    expect(of.guard.send(served, data)).toBe(true);
  }
  await until(() => got.length === 2 * lengths.length);
  expect(got).toEqual(
    lengths.flatMap((length) => [
      [length, false],
      [length, true],
    ]),
  );
});
