// relay-limiter/redis: one limit and one list of bans for many machines, through Redis or Valkey. Exports only.

export type { SharedBan } from './bans/shared-ban.js';
export {
  SharedBans,
  type SharedBansEvents,
  type SharedBansOptions,
  type SharedBansStats,
} from './bans/shared-bans.js';
export type {
  FailurePolicy,
  SharedLimitChange,
  SharedMode,
  SharedRateLimiterOptions,
} from './limit/options.js';
export { SharedRateLimiter } from './limit/shared-rate-limiter.js';
export type {
  FleetOffender,
  FleetStats,
  SharedRateLimiterEvents,
  SharedStats,
} from './limit/types.js';
export type { SharedPolicyLimiterOptions } from './quota/options.js';
export { SharedPolicyLimiter } from './quota/shared-policy-limiter.js';
export type { SharedRuleLimiterOptions, SharedRuleMode } from './rules/options.js';
export { SharedRuleLimiter } from './rules/shared-rule-limiter.js';
export type { SharedRuleLimiterState } from './rules/shared-rule-limiter-state.js';
export { SharedRulePeer } from './rules/shared-rule-peer.js';
export type {
  RuleFleetStats,
  RuleFleetTotals,
  RuleOffender,
  SharedRuleLimiterEvents,
  SharedRuleStats,
} from './rules/shared-rule-stats.js';
export type { RedisClient } from './store/redis-client.js';
export type { ShardState, StateChange, StoreCounters, StoreStats } from './store/shard-health.js';
