// The entry relay-limiter/http: names only.

export type { WarningCode, WarningOptions } from '../guard/misuse.js';
export type { Draft } from '../headers/format.js';
export type { Next } from './gate.js';
export {
  type RateLimitMiddleware,
  type RateLimitOptions,
  rateLimit,
} from './rate-limit.js';
export { type RefusalError, refusalError } from './refusal-error.js';
export type { Asked, LimitOptions, Message, Refusal, RequestVerdict, Unanswered } from './types.js';
