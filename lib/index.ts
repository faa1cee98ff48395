// The entry relay-limiter: the three limiters, TokenBucket, their types and constants. It only re-exports.

export {
  DEFAULT_BAN_DURATION,
  DEFAULT_HOSTID,
  DEFAULT_ORDERBOOK_RATE_INTERVAL,
  DEFAULT_ORDERBOOK_RATE_LIMIT,
  DEFAULT_VIOLATION_BAN_THRESHOLD,
  DEFAULT_VIOLATION_SEVERE_THRESHOLD,
  DEFAULT_VIOLATION_WARNING_THRESHOLD,
} from './common/constants.js';
export type { LimiterError, LimiterErrorCode } from './common/errors.js';
export {
  type AttachedLimiter,
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
  type SharedTable,
  type SnapshotBucket,
  type SnapshotDigest,
  type SnapshotDigests,
  type SnapshotPeer,
  type Violator,
} from './common/types.js';
export { type EngineInfo, engineInfo } from './engine/select.js';
export { BAN_CHANNEL, type BanMessage } from './limiters/ban-channel.js';
export {
  DirectConnectionRateLimiter,
  type DirectConnectionRateLimiterOptions,
  type DirectConnectionStatistics,
  type DirectPeer,
} from './limiters/direct-connection-rate-limiter.js';
export type { Keyed, PeerGroup } from './limiters/group.js';
export type { Limiter } from './limiters/limiter.js';
export type { LimiterWithBans } from './limiters/limiter-with-bans.js';
export {
  type BackoffLevel,
  type OrderbookPeer,
  OrderbookRateLimiter,
  type OrderbookRateLimiterOptions,
  type OrderbookStatistics,
} from './limiters/orderbook-rate-limiter.js';
export {
  RateLimiter,
  type RateLimiterOptions,
  type RateLimiterPeek,
  type RateLimiterPeer,
  type RateLimiterStats,
} from './limiters/rate-limiter.js';
export { removeShared } from './limiters/remove-shared.js';
export { TokenBucket, type TokenBucketOptions } from './limiters/token-bucket.js';
export { RuleLimiter } from './rules/rule-limiter.js';
export type { RuleLimiterState } from './rules/rule-limiter-state.js';
export type { RulePeer } from './rules/rule-peer.js';
export type { RuleScope } from './rules/rule-scope.js';
export type {
  BanPolicy,
  Cost,
  Keys,
  Rule,
  RuleBan,
  RuleCounts,
  RuleLimiterOptions,
  RuleNumbers,
  RulePeek,
  RuleScopeSnapshot,
  RuleScopeStats,
  RuleSections,
  RuleSlice,
  RuleSnapshot,
  RuleSnapshotDigest,
  RuleSnapshotPeer,
  RuleState,
  RuleStats,
  RuleVerdict,
  Scope,
  UsedTokens,
} from './rules/types.js';
