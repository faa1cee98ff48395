// refusalError: makes an error of a refusal, for servers that answer all errors in one handler.

import { type LimiterError, limiterError } from '../common/errors.js';
import { sentenceOf } from './answer.js';
import type { Refusal } from './types.js';

/** An error with the properties that the error handlers of Fastify, Express and Connect read. */
export interface RefusalError extends LimiterError {
  readonly code: 'ERR_LIMITER_REFUSED';
  /** The status code of the response. Frameworks read it as `statusCode` or as `status`. */
  readonly statusCode: number;
  readonly status: number;
  readonly refusal: Refusal;
}

/**
 * Returns an error for a refusal, so that a `handler` can pass it to the error handler of the server. The message is a
 * sentence for the client. The rate limit fields and Retry-After are already set. It takes some microseconds, because
 * an error captures its stack.
 * @example
 * import { once } from 'node:events';
 * import { createServer } from 'node:http';
 * import type { AddressInfo } from 'node:net';
 * import { rateLimit, refusalError } from 'relay-limiter/http';
 *
 * const limit = rateLimit({
 *   limit: 1,
 *   handler: (_request, _response, next, refusal) => next(refusalError(refusal)),
 * });
 * const server = createServer((request, response) => {
 *   limit(request, response, (error) => response.end(error?.message ?? 'Hello'));
 * });
 * server.listen(0, '127.0.0.1');
 * await once(server, 'listening');
 *
 * const { port } = server.address() as AddressInfo;
 * for (let n = 0; n < 2; n += 1) {
 *   const response = await fetch(`http://127.0.0.1:${port}`);
 *   // Prints 200 Hello, then 429 Too many requests. Try again in 60 seconds.
 *   console.log(response.status, await response.text());
 * }
 * server.close();
 * server.closeAllConnections();
 * limit.close();
 */
export function refusalError(refusal: Refusal): RefusalError {
  const { statusCode } = refusal;
  const error = limiterError(Error, 'ERR_LIMITER_REFUSED', sentenceOf(refusal));
  return Object.assign(error, { statusCode, status: statusCode, refusal }) as RefusalError;
}
