// Options for the APIs of some vendors, whose limits are described in a way of their own.

import { type BinanceOptions, binance } from './binance.js';
import { type DiscordOptions, discord } from './discord.js';
import { github } from './github.js';
import { hive } from './hive.js';
import { type AnthropicOptions, anthropic, type OpenAIOptions, openai } from './language-models.js';
import type { GroupPreset, LimiterPreset } from './preset.js';
import {
  type ShopifyGraphQLOptions,
  type ShopifyRestOptions,
  shopifyGraphQL,
  shopifyRest,
} from './shopify.js';

/** Functions that return options for the API of a vendor. */
export interface Presets {
  /**
   * Returns options for the REST and GraphQL APIs of GitHub: 900 points per minute, 80 content-creating requests per minute
   * and 500 per hour, and 100 requests at a time, for all requests; the primary limit of each resource (core, search, graphql)
   * as responses report it. A secondary refusal that gives no time blocks for a minute.
   */
  github(): GroupPreset;
  /**
   * Returns options for the API of Discord: 50 requests per second in all, and the limit of each route as responses report
   * it. A route is a method and a path without its ids, except those of channels, guilds and webhooks.
   */
  discord(options?: DiscordOptions): GroupPreset;
  /**
   * Returns options for the API of OpenAI and those like it: requests and tokens per minute. The tokens of a request are
   * estimated from its JSON body; what responses report corrects the estimate. A spent budget (`insufficient_quota`) is no
   * refusal, because waiting does not help.
   */
  openai(options?: OpenAIOptions): LimiterPreset;
  /**
   * Returns options for the API of Anthropic: requests, input tokens and output tokens per minute. The tokens of a request
   * are estimated from its JSON body; what responses report corrects the estimate. The status 529 is a refusal.
   */
  anthropic(options?: AnthropicOptions): LimiterPreset;
  /** Returns options for the REST API of Shopify: a bucket of 40 requests that leaks 2 per second. */
  shopifyRest(options?: ShopifyRestOptions): LimiterPreset;
  /**
   * Returns options for the GraphQL API of Shopify: a bucket of 2,000 points that leaks 100 per second. Responses report
   * what is left in `extensions.cost`. An answer with the error `THROTTLED` and the status 200 is a refusal.
   */
  shopifyGraphQL(options?: ShopifyGraphQLOptions): LimiterPreset;
  /**
   * Returns options for the API of Binance: 6,000 of weight per minute. What responses say is used
   * (`X-MBX-USED-WEIGHT-1M`) includes requests of other processes at the same address. The status 418, a ban after ignored
   * refusals, is a refusal.
   */
  binance(options?: BinanceOptions): LimiterPreset;
  /**
   * Returns options for a public node of Hive: 240 requests per minute, 1,800 per ten minutes, 9,000 per hour and 21,600
   * per three hours. For several nodes, give a node file to `UpstreamPool` and use only `fetch`. JSON-RPC calls are
   * repeated, except those that broadcast a transaction.
   */
  hive(): LimiterPreset;
}

/**
 * Options for the APIs of some vendors: quotas, costs, and how their responses are read. Each function returns a new
 * object with the options of a limiter or of a group of limiters, and those of `limitFetch`. The numbers are those that
 * the vendors document; give your own where your account has others.
 *
 * @example
 * import { limitFetch, PolicyLimiter, PolicyLimiterGroup, presets } from 'relay-limiter/client';
 *
 * const openai = presets.openai({ tokensPerMinute: 200_000 });
 * const openaiFetch = limitFetch(fetch, new PolicyLimiter(openai.limiter), openai.fetch);
 *
 * const github = presets.github();
 * const githubFetch = limitFetch(fetch, new PolicyLimiterGroup(github.group), github.fetch);
 * console.log(typeof openaiFetch, typeof githubFetch);
 */
export const presets: Presets = {
  github,
  discord,
  openai,
  anthropic,
  shopifyRest,
  shopifyGraphQL,
  binance,
  hive,
};
