// The user's functions may be async by mistake. Nobody awaits them, and what they reject with must not end the process.

import { createServer, type Socket } from 'node:net';
import { RateLimiter, RuleLimiter } from 'relay-limiter';
import { addressResolver } from 'relay-limiter/address';
import { guardLineServer, type LineGuardOptions } from 'relay-limiter/net';
import type { WebSocketGuardOptions } from 'relay-limiter/ws';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { WebSocket } from 'ws';
import { FakeSocket, guarded, settled } from '../net/virtual.js';
import { guardedVirtually } from '../ws/virtual.js';

const failing = async () => {
  throw new Error('of the user');
};
const message = expect.objectContaining({ message: 'of the user' });

const unhandled: unknown[] = [];
const listener = (reason: unknown) => void unhandled.push(reason);
beforeEach(() => {
  unhandled.length = 0;
  process.on('unhandledRejection', listener);
});
afterEach(async () => {
  // Node reports an unhandled rejection after the microtasks.
  await settled();
  process.off('unhandledRejection', listener);
  expect(unhandled).toEqual([]);
});

const strict = () => new RateLimiter({ rateLimit: 0.001, burstLimit: 1 });
const rules = () => new RuleLimiter({ scopes: { connection: {} }, rules: {} });

/** The errors of a WebSocket that sends two messages, and the messages that passed. */
async function errorsOfWebSocket(options: object) {
  const errors: unknown[] = [];
  const onError = (error: unknown) => errors.push(error);
  const { connect } = guardedVirtually({
    onError,
    ...options,
  } as WebSocketGuardOptions);
  const socket = connect();
  socket?.receive('a', 'b');
  await settled();
  return { errors, received: socket?.received };
}

/** The same of a line server. */
async function errorsOfLines(options: object) {
  const errors: unknown[] = [];
  const server = createServer();
  const lines: unknown[] = [];
  server.on('connection', (socket: Socket) => socket.on('line', (line) => lines.push(line)));
  const onError = (error: unknown) => errors.push(error);
  const guard = guardLineServer(server, { onError, ...options } as LineGuardOptions);
  const socket = new FakeSocket('192.0.2.1');
  server.emit('connection', socket);
  socket.receive('a\nb\n');
  await settled();
  return { errors, lines, socket, guard };
}

describe('an async function of the user', () => {
  test.each([
    ['of ws', errorsOfWebSocket],
    ['of net', errorsOfLines],
  ])('onVerdict %s reports its rejections to onError', async (_, errorsOf) => {
    const { errors } = await errorsOf({ onVerdict: failing });
    // The connection and two messages.
    expect(errors).toEqual([message, message, message]);
  });

  test('onVerdict of guardConnections reports its rejections to onError', async () => {
    const { connect, errors } = guarded({ onVerdict: failing });
    connect('192.0.2.1');
    await settled();
    expect(errors).toEqual([message]);
  });

  test('onVerdict of deliveries reports its rejections to onError', async () => {
    const errors: unknown[] = [];
    const { connect, guard } = guardedVirtually({
      delivery: { limiter: strict() },
      onVerdict: ({ kind }) => (kind === 'delivery' ? failing() : undefined),
      onError: (error) => errors.push(error),
    });
    const socket = connect() as unknown as WebSocket;
    expect([guard.send(socket, 'a'), guard.send(socket, 'b')]).toEqual([true, false]);
    await settled();
    expect(errors).toEqual([message]);
  });

  test('onError becomes a warning when it rejects', async () => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    await errorsOfWebSocket({ onVerdict: failing, onError: failing });
    expect(warn.mock.calls.map(([warning]) => warning)).toEqual([message, message, message]);
    warn.mockRestore();
  });

  test.each([
    ['cost', { messages: { limiter: strict(), cost: failing } }],
    ['key', { messages: { limiter: strict(), key: failing } }],
    ['classify', { limiter: rules(), classify: failing }],
    ['keys', { limiter: rules(), keys: failing }],
  ])('%s lets no message pass', async (_, options) => {
    const ws = await errorsOfWebSocket(options);
    expect(ws.received ?? []).toEqual([]);
    expect(ws.errors.map(String)).toEqual([expect.stringMatching(/got a Promise$/)]);
    const net = await errorsOfLines(options);
    expect(net.lines).toEqual([]);
    expect(net.errors).toEqual(ws.errors);
  });

  test('trustedProxies trusts nobody', async () => {
    const trustedProxies = async () => true;
    const resolve = addressResolver({ trustedProxies: trustedProxies as never });
    const request = {
      headers: { 'x-forwarded-for': '203.0.113.7' },
      socket: { remoteAddress: '192.0.2.1' },
    };
    const accepted = 'trustedProxies() must be a boolean, got a Promise';
    expect(() => resolve(request)).toThrow(accepted);
    const { connect, passed, errors } = guarded({
      proxyProtocol: { trustedProxies: trustedProxies as never },
    });
    connect('192.0.2.1').receive('PROXY TCP4 203.0.113.7 203.0.113.8 1 2\r\n');
    await settled();
    expect(passed).toEqual([]);
    expect(errors).toEqual([expect.objectContaining({ message: accepted })]);
  });

  test.each([
    ['async', failing, 'a Promise'],
    ['a number', () => 5, '5'],
  ])('farewell closes the connection without a text if it is %s', async (_, farewell, given) => {
    const limiter = new RateLimiter({ rateLimit: 0.001, burstLimit: 1, disconnectThreshold: 1 });
    const { errors, lines, socket, guard } = await errorsOfLines({
      messages: { limiter },
      farewell,
    });
    expect(lines).toEqual(['a']);
    const text = `farewell() must be a string or undefined, got ${given}`;
    expect(errors).toEqual([expect.objectContaining({ message: text })]);
    expect(socket.writableEnded).toBe(true);
    guard.close();
  });
});
