// The public entry of relay-limiter: names only.

export { BAN_CHANNEL, type BanMessage } from './ban-channel.js';
export {
  DEFAULT_BAN_DURATION,
  DEFAULT_HOSTID,
  DEFAULT_ORDERBOOK_RATE_INTERVAL,
  DEFAULT_ORDERBOOK_RATE_LIMIT,
  DEFAULT_VIOLATION_BAN_THRESHOLD,
  DEFAULT_VIOLATION_SEVERE_THRESHOLD,
  DEFAULT_VIOLATION_WARNING_THRESHOLD,
} from './constants.js';
export {
  DirectConnectionRateLimiter,
  type DirectConnectionRateLimiterOptions,
  type DirectConnectionStatistics,
  type DirectPeer,
} from './direct-connection-rate-limiter.js';
export { type EngineInfo, engineInfo } from './engine/select.js';
export type { LimiterError, LimiterErrorCode } from './errors.js';
export type { Keyed, PeerGroup } from './group.js';
export {
  type BackoffLevel,
  type OrderbookPeer,
  OrderbookRateLimiter,
  type OrderbookRateLimiterOptions,
  type OrderbookStatistics,
} from './orderbook-rate-limiter.js';
export { RateLimiter, type RateLimiterOptions, type RateLimiterStats } from './rate-limiter.js';
export { TokenBucket, type TokenBucketOptions } from './token-bucket.js';
export {
  type Ban,
  type BansInForce,
  type CheckResult,
  type CleanupLimits,
  type CleanupSchedule,
  type EngineName,
  type LimiterName,
  type LimiterOptions,
  type LimiterOverview,
  type LimiterSnapshot,
  type LimiterTotals,
  type Peer,
  RateLimitAction,
  type SnapshotPeer,
  type Violator,
} from './types.js';
