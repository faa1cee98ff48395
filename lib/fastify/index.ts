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
export {
  default,
  type FastifyRateLimitOptions,
  type RateLimitHook,
  type RouteRateLimitOptions,
} from './plugin.js';
export type { Handler } from './refuse.js';
