// The entry point relay-limiter/client: re-exports only.

export type { BreakerState } from './breaker.js';
export type { Cost, Costs } from './cost.js';
export type { DeadlineError } from './deadline.js';
export type { LimiterEvent, LimiterEvents } from './events.js';
export type { Lease } from './lease.js';
export { type LimitFetchOptions, limitFetch } from './limit-fetch.js';
export type { NodeEntry, NodeFile, NodePolicy, NodeSettings } from './node-file.js';
export type {
  AcquireOptions,
  LimitedRequest,
  OuterLimiter,
  PolicyLimiterOptions,
  RequestOptions,
  UpdateContext,
} from './options.js';
export type { Algorithm, Policy } from './policies.js';
export { PolicyLimiter, type PolicyLimiterState } from './policy-limiter.js';
export {
  type CommonLimits,
  type GroupAcquireOptions,
  type GroupUpdateContext,
  PolicyLimiterGroup,
  type PolicyLimiterGroupOptions,
  type PolicyLimiterGroupState,
} from './policy-limiter-group.js';
export type {
  PoolAcquireOptions,
  PoolGrant,
  PoolSnapshot,
  PoolUpdateContext,
  UpstreamPoolOptions,
  UpstreamPoolState,
} from './pool-options.js';
export type { BinanceOptions } from './presets/binance.js';
export type { DiscordOptions } from './presets/discord.js';
export { type Presets, presets } from './presets/index.js';
export type { AnthropicOptions, OpenAIOptions } from './presets/language-models.js';
export type { GroupPreset, LimiterPreset } from './presets/preset.js';
export type { ShopifyGraphQLOptions, ShopifyRestOptions } from './presets/shopify.js';
export type { ResponseHead, ResponseOptions } from './response-options.js';
export type { PolicySnapshot, SavedLimit, SavedPolicy, SavedWindow } from './snapshot.js';
export { type InterceptorOptions, type LimiterOf, limitInterceptor } from './undici.js';
export type { NodeState } from './upstream-node.js';
export { UpstreamPool } from './upstream-pool.js';
