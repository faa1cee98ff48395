// One guarded WebSocket: its messages, pings and pongs are checked before any listener gets them. The guard overrides
// `emit`, so it does not matter when listeners are added, nor how ws calls them. There are very many messages, so an
// allowed message allocates no object and no closure here.

import type { IncomingMessage } from 'node:http';
import type { WebSocket } from 'ws';
import { closeFrame } from '../guard/close-frame.js';
import type { ConnectionContext } from '../guard/connection-context.js';
import { GuardedConnection } from '../guard/guarded-connection.js';
import { override } from '../guard/override.js';
import { type CostOf, openLimits } from '../guard/rules.js';
import type { Decision, MessageReason } from '../guard/verdicts.js';
import type { RulePeer } from '../rules/rule-peer.js';
import type { Classification } from '../rules/types.js';
import { byteLength, type FrameKind, type MessageData } from './message.js';
import type { MessageCost, MessageKeyOf, WebSocketGuardSettings } from './options.js';

/**
 * The most bytes that wait during a pause. ws finishes the chunk that it has begun when it is paused: at most 64 KB,
 * unless it was compressed. Each message counts with its heap overhead besides its data; for empty messages that is
 * nearly all of their memory.
 */
const MAX_PENDING_BYTES = 256 << 10;
const MESSAGE_OVERHEAD_BYTES = 150;

const TOO_LONG = 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH';
const EMPTY = Buffer.alloc(0);

interface PendingMessage {
  readonly data: MessageData;
  readonly kind: FrameKind;
}

export class GuardedSocket extends GuardedConnection<MessageData, FrameKind> {
  readonly peer: RulePeer | undefined;
  readonly #client: WebSocket;
  readonly #request: IncomingMessage;
  readonly #settings: WebSocketGuardSettings;
  /** Calls the listeners. */
  readonly #emit: (...event: unknown[]) => boolean;
  readonly #hooks: readonly (() => void)[];
  /** The messages that ws emitted during the pause. Pongs among them are delivered already and wait for their cost. */
  #pending: PendingMessage[] = [];
  #pendingBytes = 0;
  #isProcessing = false;
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
    const { opened, peer } = openLimits(settings, { connection: context, of }, costOf, bytesOf);
    super(client, opened, settings, context);
    this.peer = peer;
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
    if (!this.isGuarded) return true;
    if (this.isHolding || this.#pending.length > 0) this.#addPending(data, kind);
    else this.take(data, kind);
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

  #addPending(data: MessageData, kind: FrameKind): void {
    if (this.isExempt(kind)) this.pass(data, kind, undefined);
    // The listener of an exempt message may have ended the guard.
    if (!this.isGuarded) return;
    this.#pendingBytes += memoryBytes(data);
    if (this.#pendingBytes > MAX_PENDING_BYTES) this.refuse(data, kind, 'backlog');
    else this.#pending.push({ data, kind });
  }

  /** Whether ws answers the peer's close while messages that came before the close wait. */
  #mustDelayAnswer(): boolean {
    const { _closeFrameReceived } = this.#client as { _closeFrameReceived?: boolean };
    const hasWaiting = this.isHolding || this.#pending.length > 0;
    return this.isGuarded && hasWaiting && _closeFrameReceived === true;
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

  #sendDelayedAnswer(): void {
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

  protected processPending(): void {
    // A listener that pauses and resumes calls this function again.
    if (this.#isProcessing) return;
    this.#isProcessing = true;
    while (this.isGuarded && !this.isHolding && !this.stream.isPausedByUser) {
      const next = this.#pending.shift();
      if (next === undefined) {
        this.endPause();
        this.stream.resume();
        this.#sendDelayedAnswer();
        break;
      }
      this.#pendingBytes -= memoryBytes(next.data);
      this.take(next.data, next.kind, this.isExempt(next.kind));
    }
    this.#isProcessing = false;
  }

  protected discardPending(): void {
    this.#pending = [];
    this.#pendingBytes = 0;
  }

  protected deliverPending(): void {
    for (const { data, kind } of this.#pending) {
      if (!this.isExempt(kind)) this.deliverUnchecked(data, kind);
    }
    this.discardPending();
    this.#sendDelayedAnswer();
  }

  protected report(data: MessageData, frame: FrameKind, key: string, decision: Decision): void {
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
    this.#settings.onVerdict?.({ ...fields, ...decision });
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

function memoryBytes(data: MessageData): number {
  return byteLength(data) + MESSAGE_OVERHEAD_BYTES;
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
