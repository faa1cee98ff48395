// The public types of relay-limiter/fastify that relay-limiter/http does not have.

import type { FastifyReply, FastifyRequest } from 'fastify';
import type { LimitOptions, Refusal } from '../http/types.js';

/** Answers a refused request instead of the plugin. A result other than undefined is sent. */
export type Handler = (request: FastifyRequest, reply: FastifyReply, refusal: Refusal) => unknown;

/** A hook for a route's `onRequest`, `preValidation` or `preHandler`, or for `setNotFoundHandler`. */
export type RateLimitHook = (
  request: FastifyRequest,
  reply: FastifyReply,
  done: (error?: Error) => void,
) => void;

/** The options of a route or of a hook. */
export interface RouteRateLimitOptions extends LimitOptions<FastifyRequest, FastifyReply> {
  /**
   * Answers a refusal instead of the plugin. The status code, the rate limit fields and Retry-After are already set.
   * Its exception or rejection is passed to the error handler.
   */
  handler?: Handler | undefined;
}

/** The options of the plugin. */
export interface FastifyRateLimitOptions extends RouteRateLimitOptions {
  /** Whether routes without a `config.rateLimit` are limited. Default true. */
  global?: boolean | undefined;
  /**
   * The lifecycle hook that counts a request. Default `onRequest`, which runs before the body is read. The hooks of a
   * context run in the order in which they were added, and before the hooks of a route.
   */
  hook?: 'onRequest' | 'preValidation' | 'preHandler' | undefined;
}
