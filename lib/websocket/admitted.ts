// A client that may open a connection. Its place counts from the admission until the connection has ended; if no socket
// opens in time, it does not count any more.

import { invalidValue } from '../common/errors.js';
import { hasMethods } from '../common/kinds.js';
import { unref } from '../common/timers.js';
import type { Client } from '../guard/connection-context.js';
import type { Decision } from '../guard/verdicts.js';
import type { Admission, ServerSocket, StandardSocket } from './types.js';

type Attach = (admitted: Admitted, socket: StandardSocket) => void;

/** The time from the admission until the socket is open. */
const OPENING_MILLISECONDS = 10_000;

export class Admitted implements Admission {
  readonly request: Request;
  /** Undefined if the guard was closed. */
  readonly client: Client | undefined;
  readonly #attach: Attach;
  #decision: Decision | undefined;
  #socket: ServerSocket | undefined;
  #isEnded = false;
  #end: (() => void) | undefined;
  #expired = () => this.#stop();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(request: Request, client: Client | undefined, attach: Attach) {
    this.request = request;
    this.client = client;
    this.#attach = attach;
  }

  get decision(): Decision | undefined {
    return this.#decision;
  }

  guard(socket: StandardSocket): void {
    if (!hasMethods(socket, 'close', 'addEventListener')) {
      const accepted = 'a WebSocket of the web standard';
      throw invalidValue('ERR_LIMITER_OPTION', 'the socket', socket, accepted);
    }
    this.#attach(this, socket);
  }

  /** Sets what to call when the connection has ended. */
  once(_: 'close', listener: () => void): void {
    this.#end = listener;
  }

  /** The connection passed, so its socket must open in time. */
  passed(decision: Decision): void {
    this.#decision = decision;
    this.#timer = setTimeout(() => this.#expired(), OPENING_MILLISECONDS);
    unref(this.#timer);
  }

  /** Takes the place for a socket. False if it is taken or does not count any more. */
  take(socket: ServerSocket): boolean {
    if (this.#socket !== undefined || this.#isEnded) return false;
    this.#socket = socket;
    return true;
  }

  /** Sets what to call if the socket does not open in time. */
  onExpired(expired: () => void): void {
    this.#expired = expired;
  }

  opened(): void {
    clearTimeout(this.#timer);
  }

  /** Whether a socket has taken the place. */
  has(socket: ServerSocket): boolean {
    return this.#socket === socket;
  }

  /** Frees the place if the socket has taken it. */
  ended(socket: ServerSocket): void {
    if (this.has(socket)) this.#stop();
  }

  /** Calls `upgrade`, and frees the place if that fails. */
  run<Result>(upgrade: (admission: Admission) => Result): Result {
    const failed = () => {
      if (this.#socket === undefined) this.#stop();
    };
    const settle = <Value>(result: Value): Value => {
      if (isFailure(result)) failed();
      return result;
    };
    const fail = (error: unknown): never => {
      failed();
      throw error;
    };
    try {
      const result = upgrade(this);
      return hasMethods(result, 'then')
        ? ((result as PromiseLike<unknown>).then(settle, fail) as Result)
        : settle(result);
    } catch (error) {
      return fail(error);
    }
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#isEnded = true;
    const end = this.#end;
    this.#end = undefined;
    end?.();
  }
}

/** Whether the result of an upgrade says that there is no connection. */
function isFailure(result: unknown): boolean {
  return result === false || (result instanceof Response && result.status !== 101);
}
