// GitHub: a primary limit per resource, which responses report, and secondary limits, which are only documented.

import { parseRateLimitHeaders } from '../../headers/parse.js';
import type { RateLimitInfo } from '../../headers/types.js';
import type { Costs } from '../cost.js';
import type { LimitedRequest } from '../options.js';
import { type GroupPreset, jsonOf, jsonOfRequest, pathOf } from './preset.js';

const MAX_CONCURRENT = 100;
/** GitHub asks for a minute if a secondary limit gives no time. */
const SECONDARY_SECONDS = 60;

/** See `Presets.github`. */
export function github(): GroupPreset {
  return {
    group: {
      algorithm: 'sliding',
      common: {
        policies: [
          { quota: 900, windowSeconds: 60, unit: 'points' },
          { quota: 80, windowSeconds: 60, unit: 'content' },
          { quota: 500, windowSeconds: 3600, unit: 'content' },
        ],
        maxConcurrent: MAX_CONCURRENT,
      },
    },
    fetch: { cost: costOf, key: resourceOf, read: readGitHub, isCommon: isSecondary },
  };
}

function costOf({ url, method, body }: LimitedRequest): Costs {
  const isRead = method === 'GET' || method === 'HEAD' || method === 'OPTIONS';
  if (isRead || isQuery(url, body)) return { requests: 1, points: 1 };
  return { requests: 1, points: 5, content: 1 };
}

/** Whether the request is one of GraphQL without a mutation. */
function isQuery(url: string, body: unknown): boolean {
  if (!pathOf(url).endsWith('/graphql')) return false;
  const { query } = jsonOfRequest(body);
  return typeof query === 'string' && !/^\s*mutation\b/.test(query);
}

function resourceOf({ url }: LimitedRequest): string {
  const path = pathOf(url);
  if (path.endsWith('/graphql')) return 'graphql';
  if (path.includes('/search/code')) return 'code_search';
  return /^(\/api\/v3)?\/search\//.test(path) ? 'search' : 'core';
}

async function readGitHub(response: Response): Promise<RateLimitInfo> {
  const info = parseRateLimitHeaders(response.headers);
  const { status } = response;
  if (status !== 403 && status !== 429) return info;
  if (!isSecondary(response, info) || info.retryAfterSeconds !== null) return info;
  const isRefused = status === 429 || (await isSecondaryRefusal(response));
  return isRefused ? { ...info, retryAfterSeconds: SECONDARY_SECONDS } : info;
}

/** A refusal is about the secondary limits, which all resources share, unless the primary limit is spent. */
function isSecondary(_: Response, { limits }: RateLimitInfo): boolean {
  return limits.every(({ remaining }) => remaining !== 0);
}

async function isSecondaryRefusal(response: Response): Promise<boolean> {
  const { message, documentation_url: page } = await jsonOf(response);
  return /secondary rate limit|abuse detection/i.test(`${message} ${page}`);
}
