// The request handlers of undici, wrapped by a limiter: one class for the handler interface since undici 7, one
// for the interface before. Undici 7 still accepts the older handlers outside of `compose`, and undici 6 has no
// others.

import type { ResponseHeaders } from '../headers/containers.js';
import type { RateLimitInfo } from '../headers/types.js';
import { destroyBody, watchBody } from './bodies.js';
import type { Lease } from './lease.js';
import type { UpdateContext } from './options.js';
import type { ReadResponse } from './response-options.js';

/** A limiter that hears of responses. */
interface Informed {
  update(info: RateLimitInfo, status: number, context: UpdateContext & { lease: Lease }): void;
}

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

/** The handler interface since undici 7. */
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

/** Names and values alternate, as bytes or text. */
type RawHeaders = readonly (RawValue | readonly RawValue[])[];
type RawValue = { toString(encoding?: 'latin1'): string };

/** The handler interface up to undici 6. */
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

/** Reads the status and the headers of a response. */
export type ReadHead = (status: number, headers: ResponseHeaders) => ReadResponse;

/** A request, and how it is limited. */
export interface LimitedRequestOf {
  readonly limiter: Informed;
  readonly body: unknown;
  readonly read: ReadHead;
  acquire(signal: AbortSignal): Promise<Lease>;
  send(handler: Handler): void;
}

/** Acquires a lease and dispatches the request; its events go to the handler and to the limiter. */
export async function dispatchLimited(
  { limiter, body, read, acquire, send }: LimitedRequestOf,
  handler: Handler,
): Promise<void> {
  const request = new LimitedDispatch(limiter, read);
  const limitedHandler =
    'onRequestStart' in handler
      ? new LimitedHandler(request, handler)
      : new LimitedLegacyHandler(request, handler);
  // Undici listens for errors of the body only when the request is dispatched.
  const unwatchBody = watchBody(body, (error) => request.abort(error));
  try {
    limitedHandler.announce();
    await request.wait(acquire);
    send(limitedHandler);
  } catch (error) {
    destroyBody(body);
    limitedHandler.fail(error);
  } finally {
    unwatchBody();
  }
}

/** One dispatched request: it waits, is written to a connection, and is answered or fails. */
class LimitedDispatch {
  readonly #limiter: Informed;
  readonly #read: ReadHead;
  readonly #waiting = new AbortController();
  #lease: Lease | undefined;
  /** Aborts the request on its connection; undefined until it is written to one. */
  #abort: Abort | undefined;

  constructor(limiter: Informed, read: ReadHead) {
    this.#limiter = limiter;
    this.#read = read;
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
    // Undici calls this before it writes the request. Aborting here means that nothing is written.
    if (this.signal.aborted) abort(this.signal.reason);
    else this.#abort = abort;
  }

  answer(status: number, headers: ResponseHeaders): void {
    // Informational responses such as early hints report no limits.
    if (status < 200 && status !== 101) return;
    // A request is dispatched only with a lease.
    const lease = this.#lease as Lease;
    try {
      const { info, ageSeconds, refused, within } = this.#read(status, headers);
      this.#limiter.update(info, status, { lease, ageSeconds, refused, within });
    } finally {
      lease.release();
    }
  }

  fail(): void {
    if (this.#abort === undefined) this.#lease?.refund();
    else this.#lease?.release();
  }
}

class LimitedHandler implements CurrentHandler, Controller {
  readonly #request: LimitedDispatch;
  readonly #handler: CurrentHandler;
  #controller: Controller | undefined;

  constructor(request: LimitedDispatch, handler: CurrentHandler) {
    this.#request = request;
    this.#handler = handler;
  }

  /** Passes the handler a controller, so that the request can be aborted while it waits. */
  announce(): void {
    this.#handler.onRequestStart(this, null);
  }

  fail(error: unknown): void {
    this.onResponseError(this, error);
  }

  onRequestStart(controller: Controller): void {
    this.#controller = controller;
    this.#request.start((reason) => controller.abort(reason));
  }

  onRequestUpgrade(_: Controller, status: number, headers: ResponseHeaders, socket: unknown): void {
    this.#request.answer(status, headers);
    this.#handler.onRequestUpgrade?.(this, status, headers, socket);
  }

  onResponseStarted(): void {
    this.#handler.onResponseStarted?.();
  }

  onResponseStart(_: Controller, status: number, headers: ResponseHeaders, message?: string): void {
    this.#request.answer(status, headers);
    this.#handler.onResponseStart?.(this, status, headers, message);
  }

  onResponseData(_: Controller, chunk: unknown): void {
    this.#handler.onResponseData?.(this, chunk);
  }

  onResponseEnd(_: Controller, trailers: unknown): void {
    this.#handler.onResponseEnd?.(this, trailers);
  }

  onResponseError(_: Controller, error: unknown): void {
    this.#request.fail();
    this.#handler.onResponseError?.(this, error);
  }

  get aborted(): boolean {
    return this.#controller?.aborted ?? this.#request.signal.aborted;
  }

  get reason(): unknown {
    return this.#controller?.reason ?? this.#request.signal.reason;
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
    this.#request.abort(reason);
  }

  pause(): void {
    this.#controller?.pause();
  }

  resume(): void {
    this.#controller?.resume();
  }
}

class LimitedLegacyHandler implements LegacyHandler {
  readonly #request: LimitedDispatch;
  readonly #handler: LegacyHandler;

  constructor(request: LimitedDispatch, handler: LegacyHandler) {
    this.#request = request;
    this.#handler = handler;
  }

  /** Passes the handler an abort function, so that the request can be aborted while it waits. */
  announce(): void {
    this.#handler.onConnect?.((reason) => this.#request.abort(reason), null);
  }

  fail(error: unknown): void {
    this.onError(error);
  }

  onConnect(abort: Abort): void {
    this.#request.start(abort);
  }

  onUpgrade(status: number, headers: RawHeaders | null, socket: unknown): void {
    this.#request.answer(status, toPairs(headers));
    this.#handler.onUpgrade?.(status, headers, socket);
  }

  onResponseStarted(): void {
    this.#handler.onResponseStarted?.();
  }

  onHeaders(status: number, headers: RawHeaders, resume: () => void, message: string): boolean {
    this.#request.answer(status, toPairs(headers));
    return this.#handler.onHeaders?.(status, headers, resume, message) ?? true;
  }

  onData(chunk: unknown): boolean {
    return this.#handler.onData?.(chunk) ?? true;
  }

  onComplete(trailers: unknown): void {
    this.#handler.onComplete?.(trailers);
  }

  onError(error: unknown): void {
    this.#request.fail();
    this.#handler.onError?.(error);
  }

  onBodySent(chunk: unknown, total: unknown): void {
    this.#handler.onBodySent?.(chunk, total);
  }

  onRequestSent(): void {
    this.#handler.onRequestSent?.();
  }
}

function toPairs(raw: RawHeaders | null): [name: string, value: string][] {
  const fields: [string, string][] = [];
  for (let index = 0; raw !== null && index + 1 < raw.length; index += 2) {
    const values = raw[index + 1] as RawValue | RawValue[];
    for (const value of Array.isArray(values) ? values : [values]) {
      fields.push([String(raw[index]), value.toString('latin1')]);
    }
  }
  return fields;
}
