// The entry point relay-limiter/headers: re-exports only.

export type { ResponseHeaders } from './containers.js';
export { type FormatOptions, formatRateLimitHeaders, type RateLimitStatement } from './format.js';
export { type ParseOptions, parseRateLimitHeaders } from './parse.js';
export { formatProblem, type ProblemName, parseProblem, type RateLimitProblem } from './problem.js';
export type { ResetFormat } from './resets.js';
export { parseRetryAfter } from './retry-after.js';
export type { PartitionScheme, QuotaPolicy, RateLimitInfo, ServiceLimit } from './types.js';
