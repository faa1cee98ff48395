// The entry point relay-limiter/fetch: rate limits for web-standard servers. It only re-exports.

export type { ClientInfo } from '../address/web-request.js';
export type { WarningCode, WarningOptions } from '../guard/misuse.js';
export type { Draft } from '../headers/format.js';
export { rateLimitOf } from '../http/rate-limit-of.js';
export type {
  RateLimitState,
  Refusal,
  RefusalReason,
  RequestVerdict,
  Unanswered,
} from '../http/types.js';
export type { AsyncLimiter } from '../limiters/async-limiter.js';
export type { AsyncRuleLimiter } from '../rules/any-rules.js';
export { rateLimit } from './rate-limit.js';
export type { FetchRateLimit, FetchRateLimitOptions } from './types.js';
