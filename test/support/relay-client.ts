// A client of the example relay, as the tests use it.

import { once } from 'node:events';
import { WebSocket } from 'ws';
import type { RelayMessage } from '../../out/examples/relay/protocol.js';

type OfType<Type> = Extract<RelayMessage, { type: Type }>;

/** Keeps everything it was sent until somebody asks for it. */
export class Client {
  readonly socket: WebSocket;
  readonly received: RelayMessage[] = [];
  readonly closed: Promise<{ code: number; reason: string }>;

  constructor(port: number, localAddress = '127.0.0.1') {
    this.socket = new WebSocket(`ws://127.0.0.1:${port}`, { localAddress });
    this.socket.on('message', (data) => this.received.push(JSON.parse(data.toString())));
    // A connection that is refused or cut is judged by what the test waits for.
    this.socket.on('error', () => {});
    this.closed = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    });
  }

  static async join(port: number, nick: string, localAddress?: string): Promise<Client> {
    const client = new Client(port, localAddress);
    await once(client.socket, 'open');
    client.send({ type: 'hello', nick });
    await client.next('welcome');
    return client;
  }

  send(message: object): void {
    this.socket.send(JSON.stringify(message));
  }

  /** Takes the first message of a type, waiting for it if need be. */
  async next<Type extends RelayMessage['type']>(type: Type): Promise<OfType<Type>> {
    for (;;) {
      const index = this.received.findIndex((message) => message.type === type);
      if (index >= 0) return this.received.splice(index, 1)[0] as OfType<Type>;
      await once(this.socket, 'message');
    }
  }

  /** Resolves when the relay has handled all that was sent before. */
  async caughtUp(): Promise<void> {
    this.socket.ping();
    await once(this.socket, 'pong');
  }

  /** The HTTP status of a connection that is refused. */
  async refusal(): Promise<number | undefined> {
    const [, response] = await once(this.socket, 'unexpected-response');
    return response.statusCode;
  }
}
