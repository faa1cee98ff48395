// The middleware (request, response, next) for node:http, Connect and Express. It calls next without or with an error,
// or answers the request itself.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { mapMaybePromise } from '../common/maybe-promise.js';
import { callback } from '../common/options.js';
import { RateLimitAction } from '../common/types.js';
import { watchForPerRequest } from '../guard/misuse.js';
import type { Keys } from '../rules/types.js';
import { type Answer, customAnswer, standardAnswer } from './answer.js';
import { closeConnection } from './close-connection.js';
import { nodeClient } from './node-client.js';
import { readSharedOptions } from './options.js';
import { PolicySet } from './policies.js';
import { RequestLimiter } from './request-limiter.js';
import type { LimitOptions, Message, Next, Refusal } from './types.js';

export interface RateLimitOptions<
  Request extends IncomingMessage = IncomingMessage,
  Response extends ServerResponse = ServerResponse,
> extends LimitOptions<Request, Response> {
  /**
   * Answers a refusal instead of the middleware. The status code, the rate limit fields and Retry-After are already
   * set. Its exception or rejection is passed to `next`.
   */
  handler?:
    | ((
        request: Request,
        response: Response,
        next: (argument?: unknown) => void,
        refusal: Refusal,
      ) => unknown)
    | undefined;
}

/** The middleware, with methods to reset a key and to stop background work. */
export interface RateLimitMiddleware<
  Request extends IncomingMessage = IncomingMessage,
  Response extends ServerResponse = ServerResponse,
> {
  (request: Request, response: Response, next: Next): void;
  /**
   * Removes a key: its next request finds a full bucket. With a RuleLimiter, keys by scope; their bans end too.
   * @throws `ERR_LIMITER_KEY`
   */
  resetKey(key: string | Keys): void;
  /** Stops the background cleanup of the limiters that `limit` created. The middleware continues to limit requests. */
  close(): void;
}

/**
 * Returns middleware that limits the requests of each key by a token bucket, or by all rules of a RuleLimiter, and answers
 * refused requests with status 429. Create it once, not for each request: every call creates a limiter.
 * @throws `ERR_LIMITER_OPTION` for an invalid option, or a policy that the response fields cannot express;
 * `ERR_LIMITER_ENGINE` if the requested engine is unavailable.
 * @example
 * import { once } from 'node:events';
 * import { createServer } from 'node:http';
 * import type { AddressInfo } from 'node:net';
 * import { rateLimit } from 'relay-limiter/http';
 *
 * const limit = rateLimit({ limit: 2, windowSeconds: 60 });
 * const server = createServer((request, response) => {
 *   limit(request, response, (error) => {
 *     response.statusCode = error === undefined ? 200 : 500;
 *     response.end('Hello\n');
 *   });
 * });
 * server.listen(0, '127.0.0.1');
 * await once(server, 'listening');
 *
 * const { port } = server.address() as AddressInfo;
 * for (let n = 0; n < 3; n += 1) {
 *   const response = await fetch(`http://127.0.0.1:${port}`);
 *   // Prints 200, 200 and 429.
 *   console.log(response.status, response.headers.get('RateLimit'), await response.text());
 * }
 * server.close();
 * server.closeAllConnections();
 * limit.close();
 */
export function rateLimit<
  Request extends IncomingMessage = IncomingMessage,
  Response extends ServerResponse = ServerResponse,
>(options: RateLimitOptions<Request, Response>): RateLimitMiddleware<Request, Response> {
  const read = readSharedOptions<Request, Response>(
    'rateLimit',
    options,
    ['handler'],
    nodeClient(identity),
  );
  const handler = callback<NonNullable<typeof options.handler>>({ ...options }, 'handler');
  const policies = new PolicySet(read);
  const limiter = new RequestLimiter<Request, Response>(read, policies, {
    hasStarted,
    setField,
    refuse(request, response, next, refusal) {
      if (!hasStarted(response)) prepare(request, response, refusal);
      return handler === undefined
        ? send(request, response, read.message, refusal)
        : handler(request, response, next as (argument?: unknown) => void, refusal);
    },
    fail({ socket }, _, next, error) {
      // If the client has disconnected, there is nothing to answer and no error to report. Mock requests may have no
      // socket.
      if (!socket?.destroyed) next(error);
    },
    onSent: (response, then) => void response.once('finish', then),
  });

  const isOwn = read.limiter === undefined && read.rules === undefined;
  const detectMisuse = isOwn ? watchForPerRequest(read.warn) : () => {};
  function middleware(request: Request, response: Response, next: Next): void {
    detectMisuse(request);
    limiter.handle(request, response, next);
  }

  return Object.assign(middleware, {
    resetKey: (key: string | Keys) => policies.resetKey(key),
    close: () => policies.close(),
  });
}

function identity(request: IncomingMessage): IncomingMessage {
  return request;
}

function hasStarted(response: ServerResponse): boolean {
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
  const body = typeof message === 'function' ? message(request, response, refusal) : message;
  return mapMaybePromise(body, (resolved) => finish(response, customAnswer(resolved)));
}

/** Does nothing if other code, such as a `message` function, has started the response. */
function finish(response: ServerResponse, { type, body }: Answer): void {
  if (response.headersSent) return;
  response.setHeader('Content-Type', type);
  response.setHeader('Content-Length', Buffer.byteLength(body));
  response.end(body);
}
