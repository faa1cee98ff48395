// One connection as the relay sees it. Guarantees that what is sent to it is bounded: by its own
// buffer when it reads too slowly, and in notices when it sends too much.

import { randomUUID } from 'node:crypto';
import { TokenBucket } from 'relay-limiter';
import type { WebSocket } from 'ws';
import type { RelayMessage } from './protocol.js';

/** Bytes a slow reader may have waiting; beyond that it misses messages. */
const MAX_BUFFERED = 1 << 20;
/** Milliseconds a peer has to answer a close before its connection is cut. */
const CLOSE_GRACE = 1000;

const POLICY_VIOLATION = 1008;

export class Peer {
  /** The key of this connection in the limiters: never used again, not of the peer's choosing. */
  readonly id = randomUUID();
  readonly address: string;
  readonly connectedAt = performance.now();
  /** Undefined until `hello`. */
  nick: string | undefined;

  readonly #socket: WebSocket;
  // A notice costs the relay as much as the message it is about cost the sender.
  readonly #notices = new TokenBucket(3, 0.5);

  constructor(socket: WebSocket, address: string) {
    this.#socket = socket;
    this.address = address;
  }

  get open(): boolean {
    return this.#socket.readyState === this.#socket.OPEN;
  }

  /** Sends an encoded message; false if the peer is gone or reads too slowly to get it. */
  send(message: Buffer): boolean {
    if (!this.open || this.#socket.bufferedAmount > MAX_BUFFERED) return false;
    this.#socket.send(message, { binary: false });
    return true;
  }

  /** Tells the peer that a limit dropped its message; now and then, not each time. */
  notify(text: string): void {
    if (this.#notices.consume()) this.send(encode({ type: 'notice', text }));
  }

  /** Closes for breaking the rules. Messages that still arrive are not read. */
  expel(reason: string): void {
    this.#socket.close(POLICY_VIOLATION, reason);
    setTimeout(() => this.#socket.terminate(), CLOSE_GRACE).unref();
  }
}

export function encode(message: RelayMessage): Buffer {
  return Buffer.from(JSON.stringify(message));
}
