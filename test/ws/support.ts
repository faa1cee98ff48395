// Servers and clients for tests. `stopAll` closes all of them.

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  guardWebSocketServer,
  type WebSocketGuardOptions,
  type WebSocketVerdict,
} from 'relay-limiter/ws';
import { type ClientOptions, type ServerOptions, WebSocket, WebSocketServer } from 'ws';

/** A peer on a slow machine gets enough time to read the close frame. */
const LONG_GRACE = { closeGraceSeconds: 600 };

const started: { terminate(): void }[] = [];

/** Call it in `afterEach`. */
export function stopAll(): void {
  for (const one of started.splice(0)) one.terminate();
}

export interface Guarded {
  server: WebSocketServer;
  guard: ReturnType<typeof guardWebSocketServer>;
  port: number;
  /** The verdicts of the guard. */
  verdicts: WebSocketVerdict[];
  /** The messages that listeners got, as text. */
  received: string[];
}

/** A guarded server that records the messages it receives. Its listener is added before the guard or after it. */
export async function guarded(
  options: WebSocketGuardOptions,
  serverOptions: ServerOptions = {},
  order: 'before' | 'after' = 'after',
): Promise<Guarded> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, ...serverOptions });
  const received: string[] = [];
  const verdicts: WebSocketVerdict[] = [];
  const listen = () => {
    server.on('connection', (socket) => {
      socket.on('message', (data) => received.push(data.toString()));
    });
  };
  if (order === 'before') listen();
  const onVerdict = (verdict: WebSocketVerdict) => verdicts.push(verdict);
  const guard = guardWebSocketServer(server, { onVerdict, ...LONG_GRACE, ...options });
  if (order === 'after') listen();
  started.push(stopper(server));
  await once(server, 'listening');
  return { server, guard, verdicts, received, port: (server.address() as AddressInfo).port };
}

export function stopper(server: WebSocketServer): { terminate(): void } {
  const terminate = () => {
    for (const client of server.clients) client.terminate();
    server.close();
  };
  return { terminate };
}

export function stopLater(one: { terminate(): void }): void {
  started.push(one);
}

export function client(port: number, options: ClientOptions = {}): WebSocket {
  const socket = new WebSocket(`ws://127.0.0.1:${port}`, options);
  socket.on('error', () => {});
  started.push(socket);
  return socket;
}

export async function connected(port: number, options: ClientOptions = {}): Promise<WebSocket> {
  const socket = client(port, options);
  await once(socket, 'open');
  return socket;
}

/** The HTTP response that a client got instead of an upgrade. */
export async function refusal(socket: WebSocket) {
  const [, response] = await once(socket, 'unexpected-response');
  response.resume();
  await once(response, 'end');
  return { status: response.statusCode, retryAfter: response.headers['retry-after'] };
}

export async function closing(socket: WebSocket): Promise<{ code: number; reason: string }> {
  const [code, reason] = await once(socket, 'close');
  return { code, reason: reason.toString() };
}

/** Resolves when the server has read everything that was sent before. */
export async function caughtUp(socket: WebSocket): Promise<void> {
  socket.ping();
  await once(socket, 'pong');
}

/** An HTTP server that listens. */
export async function httpServer() {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  started.push({ terminate: () => server.close() });
  return { server, port: (server.address() as AddressInfo).port };
}
