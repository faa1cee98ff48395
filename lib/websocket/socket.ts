// One guarded WebSocket of any server: its messages, pings and pongs are checked one by one, and never wait.

import { tryCall } from '../common/callbacks.js';
import { closeFrame } from '../guard/close-frame.js';
import type { ConnectionContext } from '../guard/connection-context.js';
import { GuardedConnection } from '../guard/guarded-connection.js';
import { type CostOf, openLimits } from '../guard/rules.js';
import type { Decision, MessageReason } from '../guard/verdicts.js';
import type { RulePeer } from '../rules/rule-peer.js';
import type { Classification } from '../rules/types.js';
import { bytesOf } from './message.js';
import type { ServerSocket, SocketCost, SocketData, SocketGuardSettings } from './types.js';

export type FrameKind = 'text' | 'binary' | 'ping' | 'pong';

/** A message that has been checked. */
export interface Received {
  readonly frame: FrameKind;
  /** Whether the handlers may get it. */
  isPassed: boolean;
  /** The `value` of its classification. */
  value: unknown;
}

/** A standard socket closes only with its own codes: those of a guard have the same last digits, 4008 for 1008. */
const PRIVATE_CODES = 3000;

/** Nothing can be paused, and no message waits. */
const UNPAUSABLE = { pause() {}, resume() {} };

export class GuardedSocket extends GuardedConnection<SocketData, Received> {
  readonly peer: RulePeer | undefined;
  readonly #socket: ServerSocket;
  readonly #request: Request;
  readonly #settings: SocketGuardSettings;
  readonly #removeHooks: () => void;

  /** @throws what a rule's key function throws. */
  constructor(
    socket: ServerSocket,
    request: Request,
    settings: SocketGuardSettings,
    context: ConnectionContext,
    removeHooks: () => void,
  ) {
    const of: [ServerSocket, Request] = [socket, request];
    const { opened, peer } = openLimits(settings, { connection: context, of }, costOf, bytesOf);
    super({ ...UNPAUSABLE }, opened, settings, context);
    this.peer = peer;
    this.#socket = socket;
    this.#request = request;
    this.#settings = settings;
    this.#removeHooks = removeHooks;
  }

  /** Checks a message, and closes the connection if it must not go on. */
  receive(data: SocketData, frame: FrameKind): Received {
    const received: Received = { frame, isPassed: this.isReleased, value: undefined };
    if (this.isGuarded) this.take(data, received);
    return received;
  }

  /** The connection is closed, by either side. */
  override closed(): void {
    super.closed();
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
    received.isPassed = true;
    received.value = message?.value;
  }

  protected processPending(): void {}

  protected discardPending(): void {}

  protected deliverPending(): void {}

  protected report(data: SocketData, { frame }: Received, key: string, decision: Decision): void {
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
    this.#settings.onVerdict?.({ ...fields, ...decision });
  }

  protected beginClose(reason: MessageReason, words: string | undefined): void {
    const { code, text } = closeFrame(reason, words);
    closeSocket(this.#socket, code, text);
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
