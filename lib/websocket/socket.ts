// One guarded WebSocket of any server: its messages, pings and pongs are checked one by one. They wait only for a limiter that
// answers by a promise.

import { callSafely, tryCall } from '../common/callbacks.js';
import { closeFrame } from '../guard/close-frame.js';
import type { ConnectionContext } from '../guard/connection-context.js';
import { QueuedConnection } from '../guard/queued-connection.js';
import { type CostOf, openLimits } from '../guard/rules.js';
import type { Decision, MessageReason } from '../guard/verdicts.js';
import type { Classification } from '../rules/types.js';
import { bytesOf } from './message.js';
import type { ServerSocket, SocketCost, SocketData, SocketGuardSettings } from './types.js';

export type FrameKind = 'text' | 'binary' | 'ping' | 'pong';

/** A message that has been received. */
export interface Received {
  readonly frame: FrameKind;
  /** Calls the handlers, if the message passes later. It may throw what they throw. */
  readonly passLater: (value: unknown) => void;
  /** Whether a limiter has not answered before `receive` returned. */
  isLate: boolean;
  /** Whether the handlers may get it. */
  isPassed: boolean;
  /** The `value` of its classification. */
  value: unknown;
}

/** A standard socket closes only with its own codes: those of a guard have the same last digits, 4008 for 1008. */
const PRIVATE_CODES = 3000;

/** Nothing can be paused. */
const UNPAUSABLE = { pause() {}, resume() {} };

export class GuardedSocket extends QueuedConnection<SocketData, Received> {
  /** These servers read on while a message waits. */
  protected readonly maxPendingBytes = 1 << 20;
  readonly #socket: ServerSocket;
  readonly #request: Request;
  readonly #settings: SocketGuardSettings;
  readonly #removeHooks: () => void;
  /** Called when no message waits any more. */
  #afterWaiting: (() => void) | undefined;

  /** @throws what a rule's key function throws. */
  constructor(
    socket: ServerSocket,
    request: Request,
    settings: SocketGuardSettings,
    context: ConnectionContext,
    removeHooks: () => void,
  ) {
    const of: [ServerSocket, Request] = [socket, request];
    const opened = openLimits(settings, { connection: context, of }, costOf, bytesOf);
    super({ ...UNPAUSABLE }, opened, settings, context);
    this.#socket = socket;
    this.#request = request;
    this.#settings = settings;
    this.#removeHooks = removeHooks;
  }

  /**
   * Checks a message, and closes the connection if it must not go on. If a limiter has not answered yet, `passLater` is called
   * when the message passes.
   */
  receive(data: SocketData, frame: FrameKind, passLater: (value: unknown) => void): Received {
    const isPassed = this.isReleased;
    const received: Received = { frame, passLater, isLate: false, isPassed, value: undefined };
    this.checkInTurn(data, received);
    received.isLate = true;
    return received;
  }

  /** Calls a function when no message waits any more: what a peer has sent before it left may still pass. */
  afterWaiting(act: () => void): void {
    this.#afterWaiting = () => callSafely(act);
  }

  /** The connection is closed, by either side, and no message waits. */
  override closed(): void {
    super.closed();
  }

  protected drained(): void {
    const act = this.#afterWaiting;
    this.#afterWaiting = undefined;
    act?.();
  }

  protected byteLength(data: SocketData): number {
    return bytesOf(data);
  }

  /** A server that gets no pongs for its own pings takes the connection for dead. */
  protected isExempt({ frame }: Received): boolean {
    return frame === 'pong';
  }

  protected classify(data: SocketData, { frame }: Received): Classification | undefined {
    const { limits } = this.#settings;
    if (limits?.classifies !== true || frame === 'ping' || frame === 'pong') return undefined;
    return limits.classify(data, frame === 'binary', this.#socket);
  }

  protected deliver(_: SocketData, received: Received, message: Classification | undefined): void {
    received.value = message?.value;
    if (received.isLate) received.passLater(received.value);
    else received.isPassed = true;
  }

  protected report(
    data: SocketData,
    { frame }: Received,
    key: string,
    decision: Decision,
  ): unknown {
    const kind = frame === 'ping' || frame === 'pong' ? frame : 'message';
    const { address } = this.context.client;
    const fields = {
      kind,
      key,
      address,
      socket: this.#socket,
      data,
      request: this.#request,
    } as const;
    return this.#settings.onVerdict?.({ ...fields, ...decision });
  }

  protected beginClose(reason: MessageReason, words: string | undefined): void {
    const { code, text } = closeFrame(reason, words);
    closeSocket(this.#socket, code, text);
    // If the peer has left already, nothing waits any more.
    this.drained();
  }

  protected destroy(): void {
    this.#socket.terminate?.();
  }

  protected removeHooks(): void {
    this.#removeHooks();
  }
}

export function closeSocket(socket: ServerSocket, code: number, text: string): void {
  tryCall(
    () => socket.close(code, text),
    () => socket.close(PRIVATE_CODES + code, text),
  );
}

function costOf(cost: 'bytes' | SocketCost | undefined): CostOf<SocketData, Received> {
  if (cost === undefined) return () => 1;
  if (cost === 'bytes') return bytesOf;
  return (data, { frame }) => {
    if (frame === 'ping' || frame === 'pong') return undefined;
    return cost(data, frame === 'binary');
  };
}
