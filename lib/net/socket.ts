// One guarded TCP connection: its bytes are split into lines, and each allowed line becomes a 'line' event of the
// socket. While a line is held, or the user has paused the socket, the rest stays in the stream as bytes.

import type { Socket } from 'node:net';
import { tryCall } from '../common/callbacks.js';
import type { ConnectionContext } from '../guard/connection-context.js';
import { GuardedConnection } from '../guard/guarded-connection.js';
import { type CostOf, maxMessageBytes, openLimits } from '../guard/rules.js';
import type { Decision, MessageReason } from '../guard/verdicts.js';
import type { Classification } from '../rules/types.js';
import { LineDeadline } from './line-deadline.js';
import { LineSplitter } from './lines.js';
import type { Line, LineCost, LineGuardSettings, LineKeyOf } from './options.js';

/** `Meta` is the length of the line in bytes. */
export class GuardedLines extends GuardedConnection<Line, number> {
  readonly #socket: Socket;
  readonly #settings: LineGuardSettings;
  /** The longest line in bytes. A longer line could never pass, so it is refused before its end has arrived. */
  readonly #maxBytes: number;
  readonly #splitter: LineSplitter;
  readonly #deadline: LineDeadline;
  /** Whether the peer has ended the connection, and the socket will be ended when the last line has passed. */
  #mustEnd = false;
  readonly #listeners: Readonly<Record<string, (chunk: Buffer | string) => void>> = {
    data: (chunk) => this.#received(chunk),
    end: () => this.#ended(),
    close: () => {
      this.#deadline.end();
      this.closed();
    },
    // 'close' follows. Without a listener of 'error', a reset connection would end the process.
    error: () => {},
  };

  /** @throws what a rule's key function throws. */
  constructor(socket: Socket, settings: LineGuardSettings, context: ConnectionContext) {
    const of: LineKeyOf = [socket];
    const opened = openLimits(settings, { connection: context, of }, costOf, bytesOf);
    super(socket, opened, settings, context);
    this.#socket = socket;
    this.#settings = settings;
    // A rule by bytes counts one byte for the line end.
    this.#maxBytes = Math.min(settings.maxLineBytes, maxMessageBytes(settings) - 1);
    this.#splitter = new LineSplitter(this.#maxBytes);
    this.#deadline = new LineDeadline(settings.lineMilliseconds, () => this.#lineLate());
    for (const [event, listener] of Object.entries(this.#listeners)) socket.on(event, listener);
  }

  #received(chunk: Buffer | string): void {
    if (!this.isGuarded) return;
    this.#splitter.push(this.#bytesOf(chunk));
    while (this.#isOpen && !this.isHolding && !this.stream.isPausedByUser) {
      const line = this.#splitter.next();
      if (line === undefined) {
        if (this.#splitter.partialLine().partial.length > 0) this.#deadline.begin();
        this.endPause();
        return;
      }
      this.#takeLine(line);
    }
    if (this.#isOpen) this.#returnRest();
  }

  /** A destroyed socket of Node emits no data, and the guard emits none of its lines. */
  get #isOpen(): boolean {
    return this.isGuarded && !this.#socket.destroyed;
  }

  /** Returns the unsplit bytes to the stream. An empty stream would end, and the held line with it. */
  #returnRest(): void {
    this.#unshift(this.#splitter.takeRest(this.isHolding));
  }

  #unshift(bytes: Buffer): void {
    const { readableEncoding } = this.#socket;
    if (readableEncoding === null) this.#socket.unshift(bytes);
    else this.#socket.unshift(bytes.toString(readableEncoding), readableEncoding);
  }

  /** The chunk is text if the user has called setEncoding. */
  #bytesOf(chunk: Buffer | string): Buffer {
    if (typeof chunk !== 'string') return chunk;
    return Buffer.from(chunk, this.#socket.readableEncoding ?? 'utf8');
  }

  /** The last line needs no line end. */
  #ended(): void {
    if (!this.#isOpen) return;
    const line = this.#splitter.last();
    if (line !== undefined) this.#takeLine(line);
    if (this.isHolding) this.#delayEnd();
  }

  /** Node would end the socket after this event, and the line that waits would be lost. */
  #delayEnd(): void {
    if (this.#socket.allowHalfOpen) return;
    this.#socket.allowHalfOpen = true;
    this.#mustEnd = true;
  }

  #endDelayed(): void {
    if (!this.#mustEnd) return;
    this.#mustEnd = false;
    this.#socket.allowHalfOpen = false;
    this.#socket.end();
  }

  protected processPending(): void {
    this.stream.resume();
    this.#endDelayed();
  }

  #takeLine(bytes: Buffer): void {
    this.#deadline.end();
    const line = this.#decode(bytes);
    if (bytes.length > this.#maxBytes) this.refuse(line, bytes.length, 'length');
    else this.take(line, bytes.length);
  }

  #decode(bytes: Buffer): Line {
    const { encoding } = this.#settings;
    return encoding === 'buffer' ? bytes : bytes.toString(encoding);
  }

  #lineLate(): void {
    if (!this.#isOpen) return;
    // The peer cannot finish the line while the user does not read.
    if (this.stream.isPausedByUser) this.#deadline.begin();
    else {
      const { partial } = this.#splitter.partialLine();
      this.refuse(this.#decode(Buffer.from(partial)), partial.length, 'unfinished');
    }
  }

  protected isExempt(): boolean {
    return false;
  }

  protected classify(line: Line): Classification | undefined {
    const { limits } = this.#settings;
    return limits?.classifies === true ? limits.classify(line, this.#socket) : undefined;
  }

  protected deliver(line: Line, _bytes: number, message: Classification | undefined): void {
    if (this.#socket.destroyed) return;
    if (this.#settings.limits?.classifies !== true) this.#socket.emit('line', line);
    else this.#socket.emit('line', line, message?.value);
  }

  /** Nothing to do: pending lines are bytes in the stream. */
  protected discardPending(): void {}

  /** Returns bytes, not lines, to the stream: without the guard there are no lines. */
  protected deliverPending(): void {
    this.#endDelayed();
    if (this.#socket.readableEnded || this.#socket.destroyed) return;
    const { partial, skipsLF } = this.#splitter.partialLine();
    const rest = this.#splitter.takeRest(false);
    if (rest.length > 0) this.#unshift(rest);
    if (partial.length > 0) this.#unshift(partial);
    const buffered = skipsLF ? this.#socket.read() : null;
    if (buffered !== null && buffered.length > 1) {
      this.#unshift(this.#bytesOf(buffered).subarray(1));
    }
  }

  protected report(line: Line, _bytes: number, key: string, decision: Decision): unknown {
    const { address } = this.context.client;
    const fields = { kind: 'message', key, address, socket: this.#socket, data: line } as const;
    return this.#settings.onVerdict?.({ ...fields, ...decision });
  }

  protected beginClose(reason: MessageReason, words: string | undefined): void {
    this.#deadline.end();
    const text = tryCall(
      () => this.#settings.farewell({ reason, words }),
      this.context.reportError,
    );
    if (text === undefined) this.#socket.end();
    else this.#socket.end(text);
  }

  protected destroy(): void {
    this.#socket.destroy();
  }

  /** The listener of 'error' stays: the guard added it when the connection was made, and the user may have none. */
  protected removeHooks(): void {
    this.#deadline.end();
    const { error: _, ...listeners } = this.#listeners;
    for (const [event, listener] of Object.entries(listeners)) this.#socket.off(event, listener);
  }
}

/** The cost in bytes: one byte for the line end, so that an empty line has a cost. */
function bytesOf(_line: Line, bytes: number): number {
  return bytes + 1;
}

function costOf(cost: 'bytes' | LineCost | undefined): CostOf<Line, number> {
  if (cost === undefined) return () => 1;
  if (cost === 'bytes') return bytesOf;
  return (line) => cost(line);
}
