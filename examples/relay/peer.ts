// One connection as the relay sees it. Guarantees that what is sent to it is bounded: by its own
// buffer when it reads too slowly, and in notices when it sends too much.

import { TokenBucket } from 'relay-limiter';
import { connectionKey } from 'relay-limiter/address';
import type { WebSocket } from 'ws';
import type { RelayMessage } from './protocol.js';

/** Bytes a slow reader may have waiting; beyond that it misses messages. */
const MAX_BUFFERED = 1 << 20;
export class Peer {
  /** The key of this connection in the limiters. */
  readonly id: string;
  /** Seconds of the relay's clock. */
  readonly connectedAt: number;
  /** Undefined until `hello`. */
  nick: string | undefined;

  readonly socket: WebSocket;
  // A notice costs the relay as much as the message it is about cost the sender.
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

  /** Tells the peer that a limit dropped its message; now and then, not each time. */
  notify(text: string): void {
    if (this.#notices.consume()) this.send(encode({ type: 'notice', text }));
  }
}

export function encode(message: RelayMessage): Buffer {
  return Buffer.from(JSON.stringify(message));
}
