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
  connection: DeliveryConnection | undefined;
  /** The groups that the connection leaves when it closes. */
  readonly groups = new Set<{ delete(socket: WebSocket): boolean }>();
  readonly #compresses: boolean;
  #peer: Peer | undefined;
  /** Messages that had to wait behind others when they were sent, and still wait. */
  #waiting = 0;
  readonly #written = () => {
    this.#waiting -= 1;
  };
  /** Empty messages that ws compresses or keeps behind those. It counts no byte of them. */
  #emptyInWs = 0;
  readonly #emptyWritten = () => {
    this.#emptyInWs -= 1;
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
    const compress = this.#compresses && message.compress;
    const stream = this.connection?.stream;
    // What is in ws and not in the stream must be sent first.
    const isInWs = this.#emptyInWs > 0 || bytes !== stream?.writableLength;
    const isDirect = stream !== undefined && !compress && !isInWs;
    const isEmptyInWs = (compress || this.#emptyInWs > 0) && message.byteLength === 0;
    // The first message goes to the system at once, if that takes it. Its callback comes later, so it is not counted:
    // a sender of very many messages in one turn of the event loop would seem to have a slow peer.
    const waits = bytes === 0 ? undefined : this.#written;
    const written = isEmptyInWs ? this.#emptyWritten : waits;
    if (written !== undefined) this.#waiting += 1;
    if (isEmptyInWs) this.#emptyInWs += 1;
    if (isDirect && (message.isShared || bytes > 0)) stream.write(message.frame, written);
    else socket.send(message.data, { binary: message.isBinary, compress }, written);
  }
}
