// refusalError: a refusal as an error, for servers that answer errors in one place.

import { type LimiterError, limiterError } from '../common/errors.js';
import { sentenceOf } from './answer.js';
import type { Refusal } from './types.js';

/** What error handlers look at: Fastify's `setErrorHandler`, Express' and Connect's. */
export interface RefusalError extends LimiterError {
  readonly code: 'ERR_LIMITER_REFUSED';
  /** Of the answer, by both names that frameworks ask for. */
  readonly statusCode: number;
  readonly status: number;
  readonly refusal: Refusal;
}

/**
 * Makes an error of a refusal, for a `handler` that leaves the answer to the server's error handler. Its message is a
 * sentence for the client. The fields of the limit and Retry-After are set already. It costs some microseconds, since
 * an error keeps its stack.
 * @example
 * // Fastify
 * app.register(rateLimit, { limit: 100, handler: (_, __, refusal) => { throw refusalError(refusal); } });
 * @example
 * // node:http, Connect, Express
 * rateLimit({ limit: 100, handler: (_, __, next, refusal) => next(refusalError(refusal)) });
 */
export function refusalError(refusal: Refusal): RefusalError {
  const { statusCode } = refusal;
  const error = limiterError(Error, 'ERR_LIMITER_REFUSED', sentenceOf(refusal));
  return Object.assign(error, { statusCode, status: statusCode, refusal }) as RefusalError;
}
