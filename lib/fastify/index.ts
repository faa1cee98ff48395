// The entry point relay-limiter/fastify: the Fastify plugin. It only re-exports.

export type { WarningCode, WarningOptions } from '../guard/misuse.js';
export type { Draft } from '../headers/format.js';
export { rateLimitOf } from '../http/rate-limit-of.js';
export { type RefusalError, refusalError } from '../http/refusal-error.js';
export type {
  Asked,
  LimitOptions,
  Message,
  RateLimitState,
  Refusal,
  RefusalReason,
  RequestVerdict,
  Unanswered,
} from '../http/types.js';
export type { AsyncLimiter } from '../limiters/async-limiter.js';
export type { AsyncRuleLimiter } from '../rules/any-rules.js';
export { default } from './plugin.js';
export type {
  FastifyRateLimitOptions,
  Handler,
  HookRateLimitOptions,
  RateLimitHook,
  RouteRateLimitOptions,
} from './types.js';
