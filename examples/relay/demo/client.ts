// A client of the relay: connects, sends and receives JSON messages.

import { WebSocket } from 'ws';
import type { ClientMessage, RelayMessage } from '../protocol.js';

/** The relay refused a connection with an HTTP status. */
export class Refused extends Error {}

export class Client {
  readonly socket: WebSocket;

  private constructor(socket: WebSocket) {
    this.socket = socket;
  }

  /** Connects from a loopback address. Rejects with `Refused` if the relay does not accept the connection. */
  static connect(port: number, localAddress: string): Promise<Client> {
    const socket = new WebSocket(`ws://127.0.0.1:${port}`, { localAddress });
    return new Promise((resolve, reject) => {
      socket.on('open', () => resolve(new Client(socket)));
      socket.on('unexpected-response', (request, response) => {
        reject(new Refused(`status ${response.statusCode}`));
        request.destroy();
      });
      // Once connected, an error needs no handling: `close` follows.
      socket.on('error', reject);
    });
  }

  send(message: ClientMessage): void {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  onMessage(listener: (message: RelayMessage) => void): void {
    this.socket.on('message', (data) => listener(JSON.parse(data.toString())));
  }

  /** Resolves when the relay has read all previous messages, or the connection is closed. */
  caughtUp(): Promise<void> {
    if (this.socket.readyState !== WebSocket.OPEN) return Promise.resolve();
    return new Promise((resolve) => {
      this.socket.once('pong', () => resolve());
      this.socket.once('close', () => resolve());
      this.socket.ping();
    });
  }
}
