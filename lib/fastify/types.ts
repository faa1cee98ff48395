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

/** The options of a hook. */
export interface HookRateLimitOptions extends LimitOptions<FastifyRequest, FastifyReply> {
  /**
   * Answers a refusal instead of the plugin. The status code, the rate limit fields and Retry-After are already set.
   * Its exception or rejection is passed to the error handler.
   */
  handler?: Handler | undefined;
  /**
   * The name of a group: all routes and hooks of the registration with this group share buckets of their own. Their limits
   * must be the same; other options may differ. Not with `limiter`, which routes share by itself.
   */
  group?: string | undefined;
}

/** The options of a route. */
export interface RouteRateLimitOptions extends HookRateLimitOptions {
  /** As the plugin's option, for this route. */
  hook?: FastifyRateLimitOptions['hook'];
}

/** The options of the plugin. */
export interface FastifyRateLimitOptions extends Omit<HookRateLimitOptions, 'group'> {
  /** Whether routes without a `config.rateLimit` are limited. Default true. */
  global?: boolean | undefined;
  /**
   * The lifecycle hook that counts a request. Default `onRequest`, which runs before the body is read. The hooks of a
   * context run in the order in which they were added, and before the hooks of a route. If a route names another one, that
   * is added to the context with the first such route, or with the plugin if it was registered after the route.
   */
  hook?: 'onRequest' | 'preValidation' | 'preHandler' | undefined;
}
