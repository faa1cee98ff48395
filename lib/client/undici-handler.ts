// What undici tells the handler of a request, on its way through a limiter: one class for the names that
// undici has used since 7, one for those before.

import type { ResponseHeaders } from '../headers/fields.js';
import type { Lease } from './lease.js';
import type { PolicyLimiter } from './policy-limiter.js';
import { readNews } from './response.js';

export interface Controller {
  readonly aborted: boolean;
  readonly paused: boolean;
  readonly reason: unknown;
  readonly rawHeaders?: unknown;
  readonly rawTrailers?: unknown;
  abort(reason: unknown): void;
  pause(): void;
  resume(): void;
}

/** Since undici 7. */
export interface CurrentHandler {
  onRequestStart(controller: Controller, context: unknown): void;
  onRequestUpgrade?(
    controller: Controller,
    status: number,
    headers: ResponseHeaders,
    socket: unknown,
  ): void;
  onResponseStarted?(): void;
  onResponseStart?(
    controller: Controller,
    status: number,
    headers: ResponseHeaders,
    message?: string,
  ): void;
  onResponseData?(controller: Controller, chunk: unknown): void;
  onResponseEnd?(controller: Controller, trailers: unknown): void;
  onResponseError?(controller: Controller, error: unknown): void;
}

type Abort = (reason?: unknown) => void;

/** Names and values in turn, as bytes or text. */
type RawHeaders = readonly (RawValue | readonly RawValue[])[];
type RawValue = { toString(encoding?: 'latin1'): string };

/** Up to undici 6. */
export interface LegacyHandler {
  onConnect?(abort: Abort, context: unknown): void;
  onUpgrade?(status: number, headers: RawHeaders | null, socket: unknown): void;
  onResponseStarted?(): void;
  onHeaders?(status: number, headers: RawHeaders, resume: () => void, message: string): boolean;
  onData?(chunk: unknown): boolean;
  onComplete?(trailers: unknown): void;
  onError?(error: unknown): void;
  onBodySent?(chunk: unknown, total: unknown): void;
  onRequestSent?(): void;
}

export type Handler = CurrentHandler | LegacyHandler;

/** Dispatches a request when it has its lease, and tells the handler and the limiter what comes of it. */
export async function dispatchInTurn(
  limiter: PolicyLimiter,
  handler: Handler,
  acquire: (signal: AbortSignal) => Promise<Lease>,
  dispatch: (handler: Handler) => void,
): Promise<void> {
  const turn = new Turn(limiter);
  const limited =
    'onRequestStart' in handler ? new LimitedHandler(turn, handler) : new Legacy(turn, handler);
  try {
    limited.announce();
    await turn.wait(acquire);
    dispatch(limited);
  } catch (error) {
    limited.fail(error);
  }
}

/** One request: it waits, is written to a connection, is answered or fails. */
class Turn {
  readonly #limiter: PolicyLimiter;
  readonly #waiting = new AbortController();
  #lease: Lease | undefined;
  /** Once it is written to a connection. */
  #abort: Abort | undefined;

  constructor(limiter: PolicyLimiter) {
    this.#limiter = limiter;
  }

  get signal(): AbortSignal {
    return this.#waiting.signal;
  }

  async wait(acquire: (signal: AbortSignal) => Promise<Lease>): Promise<void> {
    this.#lease = await acquire(this.signal);
    this.signal.throwIfAborted();
  }

  abort(reason: unknown): void {
    if (this.#abort === undefined) this.#waiting.abort(reason);
    else this.#abort(reason);
  }

  start(abort: Abort): void {
    // Then nothing of it is written.
    if (this.signal.aborted) abort(this.signal.reason);
    else this.#abort = abort;
  }

  answer(status: number, headers: ResponseHeaders): void {
    // Early hints and the like.
    if (status < 200 && status !== 101) return;
    const { info, ageSeconds } = readNews(headers);
    this.#limiter.update(info, status, { lease: this.#lease, ageSeconds });
    this.#lease?.release();
  }

  fail(): void {
    if (this.#abort === undefined) this.#lease?.refund();
    else this.#lease?.release();
  }
}

class LimitedHandler implements CurrentHandler, Controller {
  readonly #turn: Turn;
  readonly #handler: CurrentHandler;
  #controller: Controller | undefined;

  constructor(turn: Turn, handler: CurrentHandler) {
    this.#turn = turn;
    this.#handler = handler;
  }

  /** So that it can be aborted while it waits. */
  announce(): void {
    this.#handler.onRequestStart(this, null);
  }

  fail(error: unknown): void {
    this.onResponseError(this, error);
  }

  onRequestStart(controller: Controller): void {
    this.#controller = controller;
    this.#turn.start((reason) => controller.abort(reason));
  }

  onRequestUpgrade(_: Controller, status: number, headers: ResponseHeaders, socket: unknown): void {
    this.#turn.answer(status, headers);
    this.#handler.onRequestUpgrade?.(this, status, headers, socket);
  }

  onResponseStarted(): void {
    this.#handler.onResponseStarted?.();
  }

  onResponseStart(_: Controller, status: number, headers: ResponseHeaders, message?: string): void {
    this.#turn.answer(status, headers);
    this.#handler.onResponseStart?.(this, status, headers, message);
  }

  onResponseData(_: Controller, chunk: unknown): void {
    this.#handler.onResponseData?.(this, chunk);
  }

  onResponseEnd(_: Controller, trailers: unknown): void {
    this.#handler.onResponseEnd?.(this, trailers);
  }

  onResponseError(_: Controller, error: unknown): void {
    this.#turn.fail();
    this.#handler.onResponseError?.(this, error);
  }

  get aborted(): boolean {
    return this.#controller?.aborted ?? this.#turn.signal.aborted;
  }

  get reason(): unknown {
    return this.#controller?.reason ?? this.#turn.signal.reason;
  }

  get paused(): boolean {
    return this.#controller?.paused ?? false;
  }

  get rawHeaders(): unknown {
    return this.#controller?.rawHeaders;
  }

  get rawTrailers(): unknown {
    return this.#controller?.rawTrailers;
  }

  abort(reason: unknown): void {
    this.#turn.abort(reason);
  }

  pause(): void {
    this.#controller?.pause();
  }

  resume(): void {
    this.#controller?.resume();
  }
}

class Legacy implements LegacyHandler {
  readonly #turn: Turn;
  readonly #handler: LegacyHandler;

  constructor(turn: Turn, handler: LegacyHandler) {
    this.#turn = turn;
    this.#handler = handler;
  }

  announce(): void {
    this.#handler.onConnect?.((reason) => this.#turn.abort(reason), null);
  }

  fail(error: unknown): void {
    this.onError(error);
  }

  onConnect(abort: Abort): void {
    this.#turn.start(abort);
  }

  onUpgrade(status: number, headers: RawHeaders | null, socket: unknown): void {
    this.#turn.answer(status, pairs(headers));
    this.#handler.onUpgrade?.(status, headers, socket);
  }

  onResponseStarted(): void {
    this.#handler.onResponseStarted?.();
  }

  onHeaders(status: number, headers: RawHeaders, resume: () => void, message: string): boolean {
    this.#turn.answer(status, pairs(headers));
    return this.#handler.onHeaders?.(status, headers, resume, message) ?? true;
  }

  onData(chunk: unknown): boolean {
    return this.#handler.onData?.(chunk) ?? true;
  }

  onComplete(trailers: unknown): void {
    this.#handler.onComplete?.(trailers);
  }

  onError(error: unknown): void {
    this.#turn.fail();
    this.#handler.onError?.(error);
  }

  onBodySent(chunk: unknown, total: unknown): void {
    this.#handler.onBodySent?.(chunk, total);
  }

  onRequestSent(): void {
    this.#handler.onRequestSent?.();
  }
}

function pairs(raw: RawHeaders | null): [name: string, value: string][] {
  const fields: [string, string][] = [];
  for (let at = 0; raw !== null && at + 1 < raw.length; at += 2) {
    const lines = raw[at + 1] as RawValue | RawValue[];
    for (const line of Array.isArray(lines) ? lines : [lines]) {
      fields.push([String(raw[at]), line.toString('latin1')]);
    }
  }
  return fields;
}
