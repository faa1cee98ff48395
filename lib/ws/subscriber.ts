// One connection as the receiver of messages: how much waits for it, its bucket in the limiter of deliveries, and the
// messages that the limiter has not allowed yet.

import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { connectionKey } from '../address/connection-key.js';
import type { MaybePromise } from '../common/maybe-promise.js';
import type { CheckResult, Peer } from '../common/types.js';
import type { Answer } from '../guard/verdicts.js';
import { type AsyncLimiter, isAsyncLimiter, openAsync } from '../limiters/async-limiter.js';
import { type AnyLimiter, openPeer } from '../limiters/verdict.js';
import type { AnyRulePeer } from '../rules/any-rules.js';
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
  readonly peer: AnyRulePeer | undefined;
  /** Closes the connection because it is slow; false if it is closing already. */
  close(): boolean;
}

/** A message that waits for the answer of the limiter, or behind one that does. */
export interface UncheckedMessage {
  readonly message: OutgoingMessage;
  /** Undefined: the limiter has not answered yet. */
  answer: Answer | undefined;
}

export class Subscriber {
  readonly key: string;
  readonly socket: WebSocket;
  /** Undefined if the connection is not guarded. */
  connection: DeliveryConnection | undefined;
  /** The groups that the connection leaves when it closes. */
  readonly groups = new Set<{ delete(socket: WebSocket): boolean }>();
  readonly #compresses: boolean;
  #peer: Peer<MaybePromise<CheckResult>> | undefined;
  /** In the order of their sending. */
  readonly #unchecked: UncheckedMessage[] = [];
  #uncheckedBytes = 0;
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

  /** Whether at least this number of bytes waits for the peer to read. */
  isSlow(maxBufferedBytes: number, uncheckedBytes = 0): boolean {
    const bytes = this.socket.bufferedAmount + uncheckedBytes;
    // Node lowers the number of bytes first, and reports later that the messages are written.
    return bytes > 0 && bytes + this.#waiting * WAITING_MESSAGE_BYTES >= maxBufferedBytes;
  }

  /** Whether at least this number of bytes waits for the peer or for the limiter. */
  isFull(maxBufferedBytes: number): boolean {
    return this.isSlow(maxBufferedBytes, this.#uncheckedBytes);
  }

  /** Whether messages wait for the limiter. */
  get hasUnchecked(): boolean {
    return this.#unchecked.length > 0;
  }

  addUnchecked(message: OutgoingMessage, answer: Answer | undefined): UncheckedMessage {
    const unchecked = { message, answer };
    this.#unchecked.push(unchecked);
    this.#uncheckedBytes += uncheckedBytes(message);
    return unchecked;
  }

  /** Takes the first of these messages if the limiter has answered, or whether or not it has. */
  takeUnchecked(isAnswerNeeded: boolean): UncheckedMessage | undefined {
    const [first] = this.#unchecked;
    if (first === undefined || (isAnswerNeeded && first.answer === undefined)) return undefined;
    this.#unchecked.shift();
    this.#uncheckedBytes -= uncheckedBytes(first.message);
    return first;
  }

  /** Takes tokens from the bucket of the connection. @throws (or rejects with) the errors of the limiter's check. */
  check(limiter: AnyLimiter | AsyncLimiter, cost: number): MaybePromise<CheckResult> {
    this.#peer ??= isAsyncLimiter(limiter)
      ? openAsync(limiter, this.key)
      : openPeer(limiter, this.key);
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

function uncheckedBytes(message: OutgoingMessage): number {
  return message.byteLength + WAITING_MESSAGE_BYTES;
}
