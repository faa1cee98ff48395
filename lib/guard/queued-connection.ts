// A guarded connection whose socket gives messages while another one waits: it cannot be paused, or it finishes what it has
// read. The messages wait here, in order and bounded in bytes. An allowed message that waits for nothing allocates nothing.

import { GuardedConnection } from './guarded-connection.js';

/** For each waiting message: its heap overhead besides its data. For empty messages that is nearly all of their memory. */
const MESSAGE_OVERHEAD_BYTES = 150;

interface PendingMessage<Data, Meta> {
  readonly data: Data;
  readonly meta: Meta;
}

export abstract class QueuedConnection<Data, Meta> extends GuardedConnection<Data, Meta> {
  /** Exempt messages among them are delivered already and wait for their cost. */
  #pending: PendingMessage<Data, Meta>[] = [];
  #pendingBytes = 0;
  #isProcessing = false;

  /** The most bytes that wait. A message that does not fit closes the connection. */
  protected abstract readonly maxPendingBytes: number;
  /** The length of a message in bytes. */
  protected abstract byteLength(data: Data): number;
  /** Called when no message waits any more. */
  protected abstract drained(): void;

  /** Whether any message waits. */
  get hasWaiting(): boolean {
    return this.isHolding || this.#pending.length > 0;
  }

  /** Checks a message, now or behind those that wait. */
  protected checkInTurn(data: Data, meta: Meta): void {
    if (!this.isGuarded) return;
    if (this.hasWaiting) this.#addPending(data, meta);
    else this.take(data, meta);
  }

  #addPending(data: Data, meta: Meta): void {
    if (this.isExempt(meta)) this.pass(data, meta, undefined);
    // The listener of an exempt message may have ended the guard.
    if (!this.isGuarded) return;
    this.#pendingBytes += this.#memoryBytes(data);
    if (this.#pendingBytes > this.maxPendingBytes) this.refuse(data, meta, 'backlog');
    else this.#pending.push({ data, meta });
  }

  protected processPending(): void {
    // A listener that pauses and resumes calls this function again.
    if (this.#isProcessing) return;
    this.#isProcessing = true;
    while (this.isGuarded && !this.isHolding && !this.stream.isPausedByUser) {
      const next = this.#pending.shift();
      if (next === undefined) {
        this.endPause();
        this.stream.resume();
        this.drained();
        break;
      }
      this.#pendingBytes -= this.#memoryBytes(next.data);
      this.take(next.data, next.meta, this.isExempt(next.meta));
    }
    this.#isProcessing = false;
  }

  protected discardPending(): void {
    this.#pending = [];
    this.#pendingBytes = 0;
  }

  protected deliverPending(): void {
    for (const { data, meta } of this.#pending) {
      if (!this.isExempt(meta)) this.deliverUnchecked(data, meta);
    }
    this.discardPending();
    this.drained();
  }

  #memoryBytes(data: Data): number {
    return this.byteLength(data) + MESSAGE_OVERHEAD_BYTES;
  }
}
