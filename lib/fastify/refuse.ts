// The answer to a refused request, as Fastify sends it.

import type { FastifyReply, FastifyRequest } from 'fastify';
import { RateLimitAction } from '../common/types.js';
import { standardAnswer } from '../http/answer.js';
import { closeConnection } from '../http/close-connection.js';
import { isPromise, whenKnown } from '../http/later.js';
import type { Message, Refusal } from '../http/types.js';

export type Handler = (request: FastifyRequest, reply: FastifyReply, refusal: Refusal) => unknown;

/** The user's own words, or the handler that has them. */
export interface Words {
  readonly message: Message<FastifyRequest, FastifyReply> | undefined;
  readonly handler: Handler | undefined;
}

/** What it returns may be a promise. */
export function refuse(
  request: FastifyRequest,
  reply: FastifyReply,
  refusal: Refusal,
  { message, handler }: Words,
): unknown {
  const { statusCode, retryAfterSeconds, action } = refusal;
  reply.code(statusCode);
  if (retryAfterSeconds !== null) reply.header('retry-after', retryAfterSeconds);
  if (action === RateLimitAction.DISCONNECT) {
    closeConnection(request.raw, (name, value) => reply.header(name, value));
  }
  if (handler !== undefined) return sendAnswer(reply, handler(request, reply, refusal));
  if (message === undefined) return sendStandard(request, reply, refusal);
  const words = typeof message === 'function' ? message(request, reply, refusal) : message;
  return whenKnown(words, (said) => void reply.send(said));
}

/** What a handler answers is sent, as Fastify does with what a route's answers: unless it has sent it itself. */
function sendAnswer(reply: FastifyReply, answer: unknown): unknown {
  if (answer === undefined || answer === reply) return undefined;
  if (isPromise(answer)) return Promise.resolve(answer).then((known) => sendAnswer(reply, known));
  if (!reply.sent) reply.send(answer);
  return undefined;
}

/** As bytes, which no serializer of the user's looks at. */
function sendStandard(request: FastifyRequest, reply: FastifyReply, refusal: Refusal): void {
  const { type, body } = standardAnswer(refusal, request.headers.accept);
  reply.type(type).send(Buffer.from(body));
}
