// relay-limiter/redis: one limit over many machines, on Redis or Valkey. Names only.

export {
  type SharedBan,
  SharedBans,
  type SharedBansEvents,
  type SharedBansOptions,
  type SharedBansStats,
} from './bans.js';
export type { RedisClient } from './client.js';
export type { FailurePolicy, SharedMode, SharedRateLimiterOptions } from './options.js';
export type { ShardState, StateChange } from './shard.js';
export {
  SharedRateLimiter,
  type SharedRateLimiterEvents,
  type SharedStats,
} from './shared-rate-limiter.js';
