// The deadlines of one connection: its TLS handshake, its first byte, and how long it may be idle. They read the byte
// counters of the socket and no stream, so that they cost nothing per message.

import { Socket } from 'node:net';
import { isInstance } from '../../common/kinds.js';

/** In milliseconds; undefined: no deadline. */
export interface DeadlineSettings {
  readonly handshake: number | undefined;
  readonly firstByte: number | undefined;
  readonly idle: number | undefined;
}

export type MissedDeadline = 'handshake' | 'silence' | 'idle';

/** How often the counters are compared during the time that a connection may be idle. */
const LOOKS = 4;

export class Deadlines {
  readonly #socket: Socket;
  readonly #missed: (deadline: MissedDeadline) => void;
  readonly #timers: NodeJS.Timeout[] = [];
  #handshake: NodeJS.Timeout | undefined;

  /** Calls `missed` when a deadline passes; it must then call `stop`. Bytes that have been received already do not count. */
  constructor(
    socket: Socket,
    { handshake, firstByte, idle }: DeadlineSettings,
    missed: (deadline: MissedDeadline) => void,
  ) {
    this.#socket = socket;
    this.#missed = missed;
    if (handshake !== undefined) {
      this.#handshake = setTimeout(() => missed('handshake'), handshake).unref();
    }
    // Any other stream, which the user has emitted as a connection, has no counters.
    if (!isInstance(socket, Socket)) return;
    if (firstByte !== undefined) this.#watchFirstByte(firstByte);
    if (idle !== undefined) this.#watchIdle(idle);
  }

  handshakeDone(): void {
    clearTimeout(this.#handshake);
  }

  stop(): void {
    clearTimeout(this.#handshake);
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #watchFirstByte(milliseconds: number): void {
    const { bytesRead, readableLength } = this.#socket;
    const before = bytesRead - readableLength;
    const check = () => {
      if (this.#socket.bytesRead === before) this.#missed('silence');
    };
    this.#timers.push(setTimeout(check, milliseconds).unref());
  }

  #watchIdle(milliseconds: number): void {
    let last = bytesMoved(this.#socket);
    let unchanged = 0;
    const look = () => {
      const now = bytesMoved(this.#socket);
      unchanged = now === last ? unchanged + 1 : 0;
      last = now;
      if (unchanged === LOOKS) this.#missed('idle');
    };
    this.#timers.push(setInterval(look, milliseconds / LOOKS).unref());
  }
}

/**
 * The bytes that the socket has received, and those that the system has taken from it. The counter of the handle also
 * counts what TLS and HTTP/2 write, past the socket, and it stands still when the peer does not read.
 */
function bytesMoved(socket: Socket): number {
  const { _handle: handle } = socket as { _handle?: { bytesWritten?: number } | null };
  return socket.bytesRead + (handle?.bytesWritten ?? socket.bytesWritten);
}
