// Sends the response to a refused request through Fastify's reply.

import type { FastifyReply, FastifyRequest } from 'fastify';
import { isPromise, mapMaybePromise } from '../common/maybe-promise.js';
import { RateLimitAction } from '../common/types.js';
import { requireMessage, standardAnswer } from '../http/answer.js';
import { closeConnection } from '../http/close-connection.js';
import type { Message, Refusal } from '../http/types.js';
import type { Handler } from './types.js';

/** The options that customize the response. */
export interface RefusalOptions {
  readonly message: Message<FastifyRequest, FastifyReply> | undefined;
  readonly handler: Handler | undefined;
}

/** Sends the response. A returned promise settles when that is done. */
export function refuse(
  request: FastifyRequest,
  reply: FastifyReply,
  refusal: Refusal,
  { message, handler }: RefusalOptions,
): unknown {
  const { statusCode, retryAfterSeconds, action } = refusal;
  reply.code(statusCode);
  if (retryAfterSeconds !== null) reply.header('retry-after', retryAfterSeconds);
  if (action === RateLimitAction.DISCONNECT) {
    closeConnection(request.raw, (name, value) => reply.header(name, value));
  }
  if (handler !== undefined) return sendResult(reply, handler(request, reply, refusal));
  if (message === undefined) return sendStandard(request, reply, refusal);
  const body = typeof message === 'function' ? message(request, reply, refusal) : message;
  return mapMaybePromise(body, (resolved) => {
    requireMessage(resolved);
    reply.send(resolved);
  });
}

/** Sends the result of a handler, as Fastify sends that of a route handler, unless the handler has sent a reply. */
function sendResult(reply: FastifyReply, result: unknown): unknown {
  if (result === undefined || result === reply) return undefined;
  if (isPromise(result)) return Promise.resolve(result).then((value) => sendResult(reply, value));
  if (!reply.sent) reply.send(result);
  return undefined;
}

/** Sends the body as bytes, so that no serializer of the user changes it. */
function sendStandard(request: FastifyRequest, reply: FastifyReply, refusal: Refusal): void {
  const { type, body } = standardAnswer(refusal, request.headers.accept);
  reply.type(type).send(Buffer.from(body));
}
