// A client of the relay of examples/nostr-relay. Its address is in X-Forwarded-For.

import { once } from 'node:events';
import { expect } from 'vitest';
import { WebSocket } from 'ws';
import type { NostrEvent } from '../../out/examples/nostr-relay/protocol.js';

const sockets = new Set<WebSocket>();

/** Connects from an address, and keeps what it receives. */
export class NostrClient {
  readonly socket: WebSocket;
  readonly received: unknown[][] = [];
  readonly closed: Promise<{ code: number; reason: string }>;

  constructor(port: number, address: string) {
    const headers = { 'X-Forwarded-For': address };
    this.socket = new WebSocket(`ws://127.0.0.1:${port}`, { headers });
    sockets.add(this.socket);
    this.socket.on('message', (data) => this.received.push(JSON.parse(data.toString())));
    this.socket.on('error', () => {});
    this.closed = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    });
  }

  static async open(port: number, address: string): Promise<NostrClient> {
    const client = new NostrClient(port, address);
    await once(client.socket, 'open');
    return client;
  }

  /** The status of a connection: 101, or that of its refusal, with its Retry-After. */
  static async connect(
    port: number,
    address: string,
  ): Promise<{ status?: number; retryAfter?: string }> {
    const { socket } = new NostrClient(port, address);
    const refused = new Promise<{ status?: number; retryAfter?: string }>((resolve) => {
      socket.on('unexpected-response', (_, { statusCode: status, headers }) => {
        resolve({ status, retryAfter: headers['retry-after'] } as object);
        socket.terminate();
      });
    });
    return Promise.race([refused, once(socket, 'open').then(() => ({ status: 101 }))]);
  }

  static terminateAll(): void {
    for (const socket of sockets) socket.terminate();
    sockets.clear();
  }

  send(...messages: unknown[]): void {
    for (const message of messages) this.socket.send(JSON.stringify(message));
  }

  /** Resolves with the messages received since the last call, when the relay has handled all that was sent. */
  async replies(): Promise<unknown[][]> {
    this.socket.ping();
    await once(this.socket, 'pong');
    return this.received.splice(0);
  }

  /** Publishes events; resolves with the reasons of the replies, '' if accepted. */
  async publish(...events: NostrEvent[]): Promise<unknown[]> {
    this.send(...events.map((event) => ['EVENT', event]));
    const replies = (await this.replies()).filter(([verb]) => verb === 'OK');
    expect(replies.map(([, id]) => id)).toEqual(events.map(({ id }) => id));
    return replies.map(([, , isAccepted, reason]) => (isAccepted ? '' : reason));
  }
}
