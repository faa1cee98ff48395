// relay-limiter/redis: one limit over many machines, on Redis or Valkey. Names only.

export type { SharedBan } from './bans/shared-ban.js';
export {
  SharedBans,
  type SharedBansEvents,
  type SharedBansOptions,
  type SharedBansStats,
} from './bans/shared-bans.js';
export type { FailurePolicy, SharedMode, SharedRateLimiterOptions } from './limit/options.js';
export {
  SharedRateLimiter,
  type SharedRateLimiterEvents,
  type SharedStats,
} from './limit/shared-rate-limiter.js';
export type { RedisClient } from './store/client.js';
export type { ShardState, StateChange } from './store/shard.js';
