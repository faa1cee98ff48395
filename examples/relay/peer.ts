// One connection of the relay. It bounds what the relay sends to a peer: the buffer of a peer that reads too slowly, and
// the notices to a peer that sends too much.

import { TokenBucket } from 'relay-limiter';
import { connectionKey } from 'relay-limiter/address';
import type { WebSocket } from 'ws';
import type { RelayMessage } from './protocol.js';

/** Maximum bytes buffered for a slow reader; above that, messages to it are dropped. */
const MAX_BUFFERED = 1 << 20;
export class Peer {
  /** The key of this connection in the limiters. */
  readonly id: string;
  /** Seconds of the relay's clock. */
  readonly connectedAt: number;
  /** Undefined until `hello`. */
  nick: string | undefined;

  readonly socket: WebSocket;
  // Notices are limited, because a notice costs the relay as much as the dropped message cost the sender.
  readonly #notices: TokenBucket;

  constructor(socket: WebSocket, clock: () => number) {
    this.socket = socket;
    this.connectedAt = clock();
    this.#notices = new TokenBucket(3, 0.5, { clock });
    this.id = connectionKey(socket);
  }

  get open(): boolean {
    return this.socket.readyState === this.socket.OPEN;
  }

  /** Sends an encoded message; false if the peer is gone or reads too slowly to get it. */
  send(message: Buffer): boolean {
    if (!this.open || this.socket.bufferedAmount > MAX_BUFFERED) return false;
    this.socket.send(message, { binary: false });
    return true;
  }

  /** Notifies the peer that a limit dropped its message, at a limited rate. */
  notify(text: string): void {
    if (this.#notices.consume()) this.send(encode({ type: 'notice', text }));
  }
}

export function encode(message: RelayMessage): Buffer {
  return Buffer.from(JSON.stringify(message));
}
