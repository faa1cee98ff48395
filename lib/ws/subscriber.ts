// One connection as the receiver of messages: how much waits for it, and its bucket in the limiter of deliveries.

import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { connectionKey } from '../address/connection-key.js';
import type { CheckResult, Peer } from '../common/types.js';
import { type AnyLimiter, openPeer } from '../limiters/verdict.js';
import type { RulePeer } from '../rules/rule-peer.js';
import type { OutgoingMessage } from './outgoing.js';

/** What a waiting message takes besides its data: the buffer of its frame, and its entry in the stream's queue. */
export const WAITING_MESSAGE_BYTES = 512;

const OPEN = 1;

/** What a guard knows of a connection that it guards. */
export interface DeliveryConnection {
  readonly request: IncomingMessage;
  /** The stream that the WebSocket writes to. */
  readonly stream: Duplex;
  readonly address: string | undefined;
  /** Its peer in the RuleLimiter of the guard. */
  readonly peer: RulePeer | undefined;
  /** Closes the connection because it is slow; false if it is closing already. */
  close(): boolean;
}

export class Subscriber {
  readonly key: string;
  readonly socket: WebSocket;
  /** Undefined if the connection is not guarded. */
  readonly connection: DeliveryConnection | undefined;
  /** The groups that the connection leaves when it closes. */
  readonly groups = new Set<{ delete(socket: WebSocket): boolean }>();
  readonly #compresses: boolean;
  #peer: Peer | undefined;
  /** Messages that had to wait behind others when they were sent, and still wait. */
  #waiting = 0;
  readonly #written = () => {
    this.#waiting -= 1;
  };

  constructor(socket: WebSocket, connection: DeliveryConnection | undefined) {
    this.key = connectionKey(socket);
    this.socket = socket;
    this.connection = connection;
    this.#compresses = socket.extensions.includes('permessage-deflate');
  }

  get isOpen(): boolean {
    return this.socket.readyState === OPEN;
  }

  /** Whether at least this number of bytes waits. */
  isSlow(maxBufferedBytes: number): boolean {
    const bytes = this.socket.bufferedAmount;
    // Node lowers the number of bytes first, and reports later that the messages are written.
    return bytes > 0 && bytes + this.#waiting * WAITING_MESSAGE_BYTES >= maxBufferedBytes;
  }

  /** Takes tokens from the bucket of the connection. @throws the errors of the limiter's check. */
  check(limiter: AnyLimiter, cost: number): CheckResult {
    this.#peer ??= openPeer(limiter, this.key);
    return this.#peer.check(cost);
  }

  write(message: OutgoingMessage): void {
    const { socket } = this;
    const bytes = socket.bufferedAmount;
    // The first message goes to the system at once, if that takes it. Its callback comes later, so it is not counted:
    // a sender of very many messages in one turn of the event loop would seem to have a slow peer.
    const written = bytes === 0 ? undefined : this.#written;
    if (written !== undefined) this.#waiting += 1;
    const compress = this.#compresses && message.compress;
    const stream = this.connection?.stream;
    // Bytes that are not in the stream are in ws, which must send them first.
    const isDirect = stream !== undefined && !compress && bytes === stream.writableLength;
    if (isDirect && (message.isShared || bytes > 0)) stream.write(message.frame, written);
    else socket.send(message.data, { binary: message.isBinary, compress }, written);
  }
}
