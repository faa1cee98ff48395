// A guarded server without network sockets, for tests in virtual time. Tests give messages to fake WebSockets, which
// behave like those of ws when they are paused or closed.

import { EventEmitter } from 'node:events';
import type { IncomingMessage } from 'node:http';
import {
  guardWebSocketServer,
  type WebSocketGuardOptions,
  type WebSocketVerdict,
} from 'relay-limiter/ws';
import type { VerifyClientCallbackAsync, WebSocket, WebSocketServer } from 'ws';

type Close = readonly [code?: number, reason?: string];

export class FakeSocket extends EventEmitter {
  isPaused = false;
  /** The arguments of each call of `close`. */
  readonly closes: Close[] = [];
  /** The messages that its listeners got, as text. */
  readonly received: string[] = [];

  constructor() {
    super();
    this.on('message', (data) => this.received.push(String(data)));
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  close(...how: Close): void {
    this.closes.push(how);
  }

  /** The connection ends. */
  terminate(): void {
    this.emit('close', 1006, Buffer.alloc(0));
  }

  /** Emits messages of one chunk: ws emits all of them, even if it is paused after the first one. */
  receive(...texts: readonly string[]): void {
    for (const text of texts) this.emit('message', Buffer.from(text), false);
  }
}

export function guardedVirtually(options: WebSocketGuardOptions, make = guardWebSocketServer) {
  const verdicts: WebSocketVerdict[] = [];
  /** The answers to refused connections. */
  const answers: { status: number | undefined; retryAfter: unknown }[] = [];
  const server = {
    options: {} as { verifyClient?: (info: object, answer: unknown) => void },
    handleUpgrade(request: IncomingMessage, _: unknown, __: unknown, upgraded: unknown): void {
      const admit: Parameters<VerifyClientCallbackAsync>[1] = (isAllowed, status, _, headers) => {
        if (!isAllowed) answers.push({ status, retryAfter: headers?.['Retry-After'] });
        else (upgraded as (socket: unknown, request: unknown) => void)(new FakeSocket(), request);
      };
      server.options.verifyClient?.({ req: request }, admit);
    },
  };
  const guard = make(server as unknown as WebSocketServer, {
    onVerdict: (verdict) => verdicts.push(verdict),
    ...options,
  });
  /** Connects from an address; the result is undefined if the connection is refused. */
  const connect = (
    remoteAddress: string | undefined = '192.0.2.1',
    headers: IncomingMessage['headers'] = {},
  ): FakeSocket => {
    const socket = Object.assign(new EventEmitter(), { remoteAddress, destroyed: false });
    const request = { socket, headers } as unknown as IncomingMessage;
    const made: FakeSocket[] = [];
    const upgraded = (client: WebSocket) => made.push(client as unknown as FakeSocket);
    server.handleUpgrade(request, socket, undefined, upgraded);
    return made[0] as FakeSocket;
  };
  return { guard, verdicts, answers, connect };
}
