// One connection that has passed: its deadlines, and the client that a PROXY header has named.

import type { Socket } from 'node:net';
import type { ConnectionContext } from '../../guard/connection-context.js';
import type { MessageReason } from '../../guard/verdicts.js';
import { type DeadlineSettings, Deadlines, type MissedDeadline } from './deadlines.js';
import type { Endpoint } from './proxy-header.js';
import { setEndpoint } from './proxy-stream.js';

export class WatchedConnection {
  /** It has no messages, so no peer of a RuleLimiter. */
  readonly peer = undefined;
  readonly #socket: Socket;
  readonly #endpoint: Endpoint | undefined;
  readonly #context: ConnectionContext;
  readonly #deadlines: Deadlines;

  /** Closes the connection and calls `missed` when a deadline passes. */
  constructor(
    socket: Socket,
    endpoint: Endpoint | undefined,
    deadlines: DeadlineSettings,
    context: ConnectionContext,
    missed: (deadline: MissedDeadline) => void,
  ) {
    this.#socket = socket;
    this.#endpoint = endpoint;
    this.#context = context;
    this.#deadlines = new Deadlines(socket, deadlines, (deadline) => {
      // A client that has nothing to say does no harm.
      if (deadline !== 'idle') context.countOffence();
      this.#destroy();
      missed(deadline);
    });
    socket.once('close', () => this.#end());
  }

  handshakeDone(): void {
    this.#deadlines.handshakeDone();
  }

  /** Makes the TLS socket of this connection report the client that the PROXY header has named. */
  passEndpoint(socket: Socket): void {
    if (this.#endpoint !== undefined) setEndpoint(socket, this.#endpoint);
  }

  expel(reason: MessageReason): boolean {
    this.#context.counters.countClosed(reason);
    this.#context.countOffence();
    this.#destroy();
    return true;
  }

  release(): void {
    this.#deadlines.stop();
  }

  #destroy(): void {
    this.#end();
    this.#socket.destroy();
  }

  #end(): void {
    this.#deadlines.stop();
    this.#context.remove();
  }
}
