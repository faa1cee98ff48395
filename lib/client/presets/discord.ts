// Discord: a limit per route, and one of all requests of a bot.

import { readOptions } from '../../common/options.js';
import { parseRateLimitHeaders } from '../../headers/parse.js';
import type { RateLimitInfo } from '../../headers/types.js';
import type { LimitedRequest } from '../options.js';
import { ALL_METHODS, asAmount, type GroupPreset, jsonOf, pathOf } from './preset.js';

/** Options of the preset `discord`. */
export interface DiscordOptions {
  /** The requests that the bot may send in a second, to all routes together. Default: 50. */
  requestsPerSecond?: number | undefined;
}

/** See `Presets.discord`. */
export function discord(options?: DiscordOptions): GroupPreset {
  const given = readOptions('presets.discord', options, ['requestsPerSecond']) as DiscordOptions;
  const { requestsPerSecond = 50 } = given;
  return {
    group: {
      algorithm: 'sliding',
      common: [{ quota: requestsPerSecond, windowSeconds: 1 }],
    },
    fetch: { key: routeOf, read: readDiscord, isCommon: isGlobal, retryMethods: ALL_METHODS },
  };
}

const ID = /^\d{15,20}$/;
/** The resources whose ids distinguish limits. */
const MAJOR = ['channels', 'guilds', 'webhooks'];

function routeOf({ url, method }: LimitedRequest): string {
  const parts = pathOf(url)
    .replace(/^\/api(\/v\d+)?/, '')
    .split('/')
    .filter((part) => part !== '');
  const isMajor = MAJOR.includes(parts[0] as string);
  const route = parts.map((part, position) => {
    return ID.test(part) && !(isMajor && position === 1) ? ':id' : part;
  });
  // The reactions of a channel share a limit, whatever their emoji is.
  const reactions = route.indexOf('reactions');
  const path = reactions < 0 ? route : route.slice(0, reactions + 1);
  return `${method} /${path.join('/')}`;
}

/** Whether a refusal is about the limit of all routes. */
function isGlobal({ headers }: Response): boolean {
  return (
    headers.get('x-ratelimit-global') === 'true' || headers.get('x-ratelimit-scope') === 'global'
  );
}

async function readDiscord(response: Response): Promise<RateLimitInfo> {
  const info = parseRateLimitHeaders(response.headers);
  if (response.status !== 429) return info;
  // The body has fractions of a second; the field is rounded up.
  const { retry_after: seconds } = await jsonOf(response);
  return { ...info, retryAfterSeconds: asAmount(seconds) ?? info.retryAfterSeconds };
}
