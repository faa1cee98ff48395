// The entry relay-limiter/http: names only.

export type { Draft } from '../headers/format.js';
export type { Next } from './gate.js';
export {
  type RateLimitMiddleware,
  type RateLimitOptions,
  rateLimit,
} from './rate-limit.js';
export type { Asked, LimitOptions, Message, Refusal, RequestVerdict } from './types.js';
