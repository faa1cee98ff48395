// The middleware: (request, response, next) of node:http, Connect and Express. It passes a request on,
// answers it, or hands an error to next; what comes after `next` is not its own.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { callback } from '../common/options.js';
import { RateLimitAction } from '../common/types.js';
import { watchForPerRequest } from '../guard/misuse.js';
import { type Answer, answerOf, standardAnswer } from './answer.js';
import { closeConnection } from './close-connection.js';
import { Gate, type Next } from './gate.js';
import { whenKnown } from './later.js';
import { readGateOptions } from './options.js';
import { Policies } from './policies.js';
import type { LimitOptions, Message, Refusal } from './types.js';

export interface RateLimitOptions<
  Request extends IncomingMessage = IncomingMessage,
  Response extends ServerResponse = ServerResponse,
> extends LimitOptions<Request, Response> {
  /**
   * Answers a refusal instead of the middleware; the fields of the limit and Retry-After are set. What it
   * throws, or rejects with, goes to `next`.
   */
  handler?:
    | ((
        request: Request,
        response: Response,
        next: (way?: unknown) => void,
        refusal: Refusal,
      ) => unknown)
    | undefined;
}

/** The middleware, and what can be done with it beside. */
export interface RateLimitMiddleware<
  Request extends IncomingMessage = IncomingMessage,
  Response extends ServerResponse = ServerResponse,
> {
  (request: Request, response: Response, next: Next): void;
  /** Forgets a key: its next request finds a full bucket. @throws `ERR_LIMITER_KEY` */
  resetKey(key: string): void;
  /** Ends the cleanup in the background of the limiters that `limit` made. It goes on limiting. */
  close(): void;
}

/**
 * Middleware that lets each key make so many requests in a window, as a token bucket counts them, and
 * answers others with 429.
 * @throws `ERR_LIMITER_OPTION` for a wrong option, or one that the headers cannot say; `ERR_LIMITER_ENGINE`
 */
export function rateLimit<
  Request extends IncomingMessage = IncomingMessage,
  Response extends ServerResponse = ServerResponse,
>(options: RateLimitOptions<Request, Response>): RateLimitMiddleware<Request, Response> {
  const read = readGateOptions<Request, Response>('rateLimit', options, ['handler'], itself);
  const handler = callback<NonNullable<typeof options.handler>>({ ...options }, 'handler');
  const policies = new Policies(read);
  const gate = new Gate<Request, Response>(read, policies, {
    hasBegun,
    setField,
    refuse(request, response, next, refusal) {
      if (!hasBegun(response)) prepare(request, response, refusal);
      return handler === undefined
        ? send(request, response, read.message, refusal)
        : handler(request, response, next as (way?: unknown) => void, refusal);
    },
    fail({ socket }, _, next, error) {
      // Where nobody is left to be answered the request ends here, and is no error. Mocks may have no socket.
      if (!socket?.destroyed) next(error);
    },
  });

  const look = read.limiter === undefined ? watchForPerRequest(read.warn) : () => {};
  function middleware(request: Request, response: Response, next: Next): void {
    look(request);
    gate.pass(request, response, next);
  }

  return Object.assign(middleware, {
    resetKey: (key: string) => policies.resetKey(key),
    close: () => policies.close(),
  });
}

function itself(request: IncomingMessage): IncomingMessage {
  return request;
}

function hasBegun(response: ServerResponse): boolean {
  return response.headersSent;
}

function setField(response: ServerResponse, name: string, value: string | number): void {
  response.setHeader(name, value);
}

function prepare(request: IncomingMessage, response: ServerResponse, refusal: Refusal): void {
  const { statusCode, retryAfterSeconds, action } = refusal;
  response.statusCode = statusCode;
  if (retryAfterSeconds !== null) response.setHeader('Retry-After', String(retryAfterSeconds));
  if (action === RateLimitAction.DISCONNECT) {
    closeConnection(request, (name, value) => response.setHeader(name, value));
  }
}

function send<Request extends IncomingMessage, Response extends ServerResponse>(
  request: Request,
  response: Response,
  message: Message<Request, Response> | undefined,
  refusal: Refusal,
): unknown {
  if (message === undefined) {
    return finish(response, standardAnswer(refusal, request.headers.accept));
  }
  const words = typeof message === 'function' ? message(request, response, refusal) : message;
  return whenKnown(words, (said) => finish(response, answerOf(said)));
}

/** One that has begun is whoever's began it. */
function finish(response: ServerResponse, { type, body }: Answer): void {
  if (response.headersSent) return;
  response.setHeader('Content-Type', type);
  response.setHeader('Content-Length', Buffer.byteLength(body));
  response.end(body);
}
