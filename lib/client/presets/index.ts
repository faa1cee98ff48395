// Options for the APIs of some vendors, whose limits are described in a way of their own.

import { binance } from './binance.js';
import { discord } from './discord.js';
import { github } from './github.js';
import { hive } from './hive.js';
import { anthropic, openai } from './language-models.js';
import { shopifyGraphQL, shopifyRest } from './shopify.js';

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
export const presets = {
  github,
  discord,
  openai,
  anthropic,
  shopifyRest,
  shopifyGraphQL,
  binance,
  hive,
} as const;
