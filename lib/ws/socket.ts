// One guarded WebSocket: its messages, pings and pongs are checked before any listener gets them. The guard overrides
// `emit`, so it does not matter when listeners are added, nor how ws calls them. There are very many messages, so an
// allowed message allocates no object and no closure here.

import type { IncomingMessage } from 'node:http';
import type { WebSocket } from 'ws';
import { closeFrame } from '../guard/close-frame.js';
import type { ConnectionContext } from '../guard/connection-context.js';
import { override } from '../guard/override.js';
import { QueuedConnection } from '../guard/queued-connection.js';
import { type CostOf, openLimits } from '../guard/rules.js';
import type { Decision, MessageReason } from '../guard/verdicts.js';
import type { Classification } from '../rules/types.js';
import { byteLength, type FrameKind, type MessageData } from './message.js';
import type { MessageCost, MessageKeyOf, WebSocketGuardSettings } from './options.js';

const TOO_LONG = 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH';
const EMPTY = Buffer.alloc(0);

export class GuardedSocket extends QueuedConnection<MessageData, FrameKind> {
  /** ws finishes the chunk that it has begun when it is paused: at most 64 KB, unless it was compressed. */
  protected readonly maxPendingBytes = 256 << 10;
  readonly #client: WebSocket;
  readonly #request: IncomingMessage;
  readonly #settings: WebSocketGuardSettings;
  /** Calls the listeners. */
  readonly #emit: (...event: unknown[]) => boolean;
  readonly #hooks: readonly (() => void)[];
  /** Answers the peer's close, after the messages before it have passed. */
  #answerClose: (() => void) | undefined;

  /** @throws what a rule's key function throws. */
  constructor(
    client: WebSocket,
    request: IncomingMessage,
    settings: WebSocketGuardSettings,
    context: ConnectionContext,
  ) {
    const of: MessageKeyOf = [client, request];
    const opened = openLimits(settings, { connection: context, of }, costOf, bytesOf);
    super(client, opened, settings, context);
    this.#client = client;
    this.#request = request;
    this.#settings = settings;
    this.#emit = client.emit.bind(client) as (...event: unknown[]) => boolean;
    const { close, terminate } = client;
    this.#hooks = [
      override(client, 'emit', this.#guardedEmit()),
      override(client, 'close', (...how) => {
        const proceed = () => close.apply(client, how);
        if (this.#mustDelayAnswer()) {
          this.#delayAnswer(proceed);
        } else {
          this.#closing();
          proceed();
        }
      }),
      override(client, 'terminate', () => {
        this.#closing();
        terminate.call(client);
      }),
    ];
  }

  #guardedEmit(): WebSocket['emit'] {
    const guard = this;
    return function (event: string | symbol, data: MessageData, isBinary: boolean) {
      if (!guard.isReleased) {
        if (event === 'message') return guard.#receive(data, isBinary ? 'binary' : 'text');
        if (event === 'ping' || event === 'pong') return guard.#receive(data, event);
      }
      // With rest parameters instead of `apply`, V8 would allocate an array for each message too.
      // biome-ignore lint/complexity/noArguments: the number of arguments differs, and listeners may count them.
      return guard.#emitOther.apply(guard, arguments as unknown as unknown[]);
    } as WebSocket['emit'];
  }

  #receive(data: MessageData, kind: FrameKind): true {
    this.checkInTurn(data, kind);
    return true;
  }

  #emitOther(...event: unknown[]): boolean {
    if (this.isReleased) return this.#emit(...event);
    const [name] = event;
    if (name === 'close') return this.#emitClose(event);
    if (name === 'error') this.#handleError(event[1] as { code?: unknown });
    // A peer can send an invalid frame at any time, and 'error' without a listener would end the process.
    if (name === 'error' && this.#client.listenerCount('error') === 0) return false;
    return this.#emit(...event);
  }

  /** ws discards a message that is too long and closes with 1009; the guard also counts it as an offence. */
  #handleError({ code }: { code?: unknown }): void {
    if (code === TOO_LONG && this.isGuarded) this.refuse(EMPTY, 'binary', 'length');
  }

  /** Whether ws answers the peer's close while messages that came before the close wait. */
  #mustDelayAnswer(): boolean {
    const { _closeFrameReceived } = this.#client as { _closeFrameReceived?: boolean };
    return this.isGuarded && this.hasWaiting && _closeFrameReceived === true;
  }

  /**
   * After the peer's close, ws continues to read at full speed and discards what it reads, until it has answered. So the
   * TCP socket is paused until then.
   */
  #delayAnswer(proceed: () => void): void {
    const { socket } = this.#request;
    this.#answerClose = () => {
      socket.resume();
      proceed();
    };
    process.nextTick(() => {
      if (this.#answerClose !== undefined) socket.pause();
    });
  }

  protected drained(): void {
    const answer = this.#answerClose;
    this.#answerClose = undefined;
    answer?.();
  }

  /** The user closes the connection: waiting messages are dropped, since a paused stream would not read the answer. */
  #closing(): void {
    if (!this.isGuarded) return;
    this.disablePauses();
    this.discardPending();
    this.stream.resume();
  }

  #emitClose(event: unknown[]): boolean {
    try {
      return this.#emit(...event);
    } finally {
      this.closed();
    }
  }

  /** A server that gets no pongs for its own pings takes the connection for dead. */
  protected isExempt(kind: FrameKind): boolean {
    return kind === 'pong';
  }

  /** Not of control frames, which the user's code does not know as messages. */
  protected classify(data: MessageData, kind: FrameKind): Classification | undefined {
    const { limits } = this.#settings;
    if (limits?.classifies !== true || kind === 'ping' || kind === 'pong') return undefined;
    return limits.classify(data, kind === 'binary', this.#client);
  }

  protected deliver(data: MessageData, kind: FrameKind, message: Classification | undefined): void {
    if (kind === 'ping' || kind === 'pong') this.#emit(kind, data);
    else if (this.#settings.limits?.classifies !== true) {
      this.#emit('message', data, kind === 'binary');
    } else this.#emit('message', data, kind === 'binary', message?.value);
  }

  protected byteLength(data: MessageData): number {
    return byteLength(data);
  }

  protected report(data: MessageData, frame: FrameKind, key: string, decision: Decision): unknown {
    const kind = frame === 'ping' || frame === 'pong' ? frame : 'message';
    const { address } = this.context.client;
    const fields = {
      kind,
      key,
      address,
      socket: this.#client,
      data,
      request: this.#request,
    } as const;
    return this.#settings.onVerdict?.({ ...fields, ...decision });
  }

  protected beginClose(reason: MessageReason, words: string | undefined): void {
    const { code, text } = closeFrame(reason, words);
    this.#client.close(code, text);
  }

  protected destroy(): void {
    this.#client.terminate();
  }

  protected removeHooks(): void {
    for (const removeHook of this.#hooks) removeHook();
  }
}

/** The cost in bytes: at least 1, since empty messages cost work too. */
function bytesOf(data: MessageData): number {
  return Math.max(1, byteLength(data));
}

function costOf(cost: 'bytes' | MessageCost | undefined): CostOf<MessageData, FrameKind> {
  if (cost === undefined) return () => 1;
  if (cost === 'bytes') return bytesOf;
  return (data, kind) => {
    if (kind === 'text') return cost(data, false);
    return kind === 'binary' ? cost(data, true) : undefined;
  };
}
