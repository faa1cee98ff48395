// A guarded server without network sockets, for tests in virtual time. Tests give messages to fake WebSockets, which
// behave like those of ws when they are paused or closed.

import { EventEmitter } from 'node:events';
import type { IncomingMessage } from 'node:http';
import {
  guardWebSocketServer,
  type WebSocketGuardOptions,
  type WebSocketVerdict,
} from 'relay-limiter/ws';
import type { VerifyClientCallbackAsync, WebSocket, WebSocketServer } from 'ws';

type Close = readonly [code?: number, reason?: string];

type Written = (() => void) | undefined;

/** The stream below a fake WebSocket. A peer that reads gets each chunk at once, one that does not when `read` is called. */
export class FakeStream extends EventEmitter {
  readonly remoteAddress: string;
  readonly destroyed = false;
  isRead = true;
  writableLength = 0;
  /** What the peer has read. */
  readonly sent: Buffer[] = [];
  readonly #waiting: { chunk: Buffer; written: Written }[] = [];
  #late: Written[] = [];

  constructor(remoteAddress: string) {
    super();
    this.remoteAddress = remoteAddress;
  }

  write(chunk: Buffer, written: Written): void {
    if (this.isRead && this.#waiting.length === 0) {
      this.sent.push(chunk);
      // As Node does, in a later tick.
      this.#late.push(written);
      return;
    }
    this.writableLength += chunk.length;
    this.#waiting.push({ chunk, written });
  }

  /** The peer reads a number of chunks. */
  read(count = Infinity): void {
    this.readLate(count);
    this.tick();
  }

  /** The same, but the callbacks wait for the next tick. */
  readLate(count = Infinity): void {
    for (const { chunk, written } of this.#waiting.splice(0, count)) {
      this.writableLength -= chunk.length;
      this.sent.push(chunk);
      this.#late.push(written);
    }
  }

  /** The next tick. */
  tick(): void {
    const late = this.#late;
    this.#late = [];
    for (const written of late) written?.();
  }

  /** The texts of the messages in `sent`, of at most 125 bytes each. */
  get texts(): string[] {
    return this.sent.map((frame) => frame.toString('utf8', 2));
  }
}

/** A call of `send` of a WebSocket. */
interface Send {
  readonly text: string;
  readonly options: object;
  readonly written: Written;
}

export class FakeSocket extends EventEmitter {
  readonly stream: FakeStream;
  extensions = '';
  readyState = 1;
  /** Messages that the WebSocket compresses or keeps behind those. */
  readonly sends: Send[] = [];
  isPaused = false;
  /** The arguments of each call of `close`. */
  readonly closes: Close[] = [];
  /** The messages that its listeners got, as text. */
  readonly received: string[] = [];

  constructor(stream = new FakeStream('192.0.2.1')) {
    super();
    this.stream = stream;
    this.on('message', (data) => this.received.push(String(data)));
  }

  get bufferedAmount(): number {
    const bytes = this.sends.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
    return this.stream.writableLength + bytes;
  }

  /** Takes at most 125 bytes. */
  send(
    data: string | Uint8Array,
    options: { binary: boolean; compress: boolean },
    written: Written,
  ) {
    const bytes = Buffer.from(data);
    if (options.compress || this.sends.length > 0) {
      this.sends.push({ text: String(bytes), options, written });
    } else {
      const header = Buffer.from([options.binary ? 0x82 : 0x81, bytes.length]);
      this.stream.write(Buffer.concat([header, bytes]), written);
    }
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  close(...how: Close): void {
    this.readyState = 2;
    this.closes.push(how);
  }

  /** The connection ends. */
  terminate(): void {
    this.readyState = 3;
    this.emit('close', 1006, Buffer.alloc(0));
  }

  /** Emits messages of one chunk: ws emits all of them, even if it is paused after the first one. */
  receive(...texts: readonly string[]): void {
    for (const text of texts) this.emit('message', Buffer.from(text), false);
  }
}

export function guardedVirtually(options: WebSocketGuardOptions, make = guardWebSocketServer) {
  const verdicts: WebSocketVerdict[] = [];
  /** The answers to refused connections. */
  const answers: { status: number | undefined; retryAfter: unknown }[] = [];
  const server = {
    options: {} as { verifyClient?: (info: object, answer: unknown) => void },
    handleUpgrade(
      request: IncomingMessage,
      stream: FakeStream,
      _: unknown,
      callback: unknown,
    ): void {
      const admit: Parameters<VerifyClientCallbackAsync>[1] = (isAllowed, status, _, headers) => {
        if (!isAllowed) answers.push({ status, retryAfter: headers?.['Retry-After'] });
        else
          (callback as (socket: unknown, request: unknown) => void)(
            new FakeSocket(stream),
            request,
          );
      };
      server.options.verifyClient?.({ req: request }, admit);
    },
  };
  const guard = make(server as unknown as WebSocketServer, {
    onVerdict: (verdict) => verdicts.push(verdict),
    ...options,
  });
  /** The sockets of all connections that passed. */
  const upgraded: FakeSocket[] = [];
  /** Connects from an address; the result is undefined if the connection is refused, or not decided yet. */
  const connect = (
    remoteAddress: string | undefined = '192.0.2.1',
    headers: IncomingMessage['headers'] = {},
  ): FakeSocket => {
    const stream = new FakeStream(remoteAddress);
    const request = { socket: stream, headers } as unknown as IncomingMessage;
    const before = upgraded.length;
    const callback = (client: WebSocket) => upgraded.push(client as unknown as FakeSocket);
    server.handleUpgrade(request, stream, undefined, callback);
    return upgraded[before] as FakeSocket;
  };
  return { guard, verdicts, answers, upgraded, connect };
}
