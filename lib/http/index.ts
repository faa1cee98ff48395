// The entry point relay-limiter/http: middleware for node:http, Connect and Express. It only re-exports.

export type { WarningCode, WarningOptions } from '../guard/misuse.js';
export type { Draft } from '../headers/format.js';
export type { AsyncLimiter } from '../limiters/async-limiter.js';
export type { AsyncRuleLimiter } from '../rules/any-rules.js';
export {
  type RateLimitMiddleware,
  type RateLimitOptions,
  rateLimit,
} from './rate-limit.js';
export { rateLimitOf } from './rate-limit-of.js';
export { type RefusalError, refusalError } from './refusal-error.js';
export type {
  Asked,
  LimitOptions,
  Message,
  Next,
  RateLimitState,
  Refusal,
  RefusalReason,
  RequestVerdict,
  Unanswered,
} from './types.js';
