// The entry point relay-limiter/fastify: the Fastify plugin. It only re-exports.

export type { WarningCode, WarningOptions } from '../guard/misuse.js';
export type { Draft } from '../headers/format.js';
export { type RefusalError, refusalError } from '../http/refusal-error.js';
export type {
  Asked,
  LimitOptions,
  Message,
  Refusal,
  RequestVerdict,
  Unanswered,
} from '../http/types.js';
export { default } from './plugin.js';
export type {
  FastifyRateLimitOptions,
  Handler,
  RateLimitHook,
  RouteRateLimitOptions,
} from './types.js';
