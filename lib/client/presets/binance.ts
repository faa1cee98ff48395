// Binance: a weight per minute, which responses count up.

import { readOptions } from '../../common/options.js';
import { parseRateLimitHeaders } from '../../headers/parse.js';
import type { RateLimitInfo } from '../../headers/types.js';
import type { LimitedRequest } from '../options.js';
import type { LimiterPreset } from './preset.js';

const WINDOW_SECONDS = 60;

/** Options of the preset `binance`. */
export interface BinanceOptions {
  /** Default: 6,000. */
  weightPerMinute?: number | undefined;
  /** Returns the weight of a request, as the documentation of its endpoint gives it. Default: 1. */
  weightOf?: ((request: LimitedRequest) => number) | undefined;
}

/** See `Presets.binance`. */
export function binance(options?: BinanceOptions): LimiterPreset {
  const given = readOptions('presets.binance', options, [
    'weightPerMinute',
    'weightOf',
  ]) as BinanceOptions;
  const { weightPerMinute = 6_000, weightOf = () => 1 } = given;
  return {
    limiter: {
      policies: [
        { name: 'weight', quota: weightPerMinute, windowSeconds: WINDOW_SECONDS, unit: 'weight' },
      ],
      algorithm: 'sliding',
    },
    fetch: {
      cost: (request) => ({ requests: 1, weight: weightOf(request) }),
      read: (response) => readWeight(response, weightPerMinute),
      isRefusal: ({ status }) => (status === 418 ? true : undefined),
    },
  };
}

function readWeight(response: Response, quota: number): RateLimitInfo {
  const info = parseRateLimitHeaders(response.headers);
  const used = response.headers.get('x-mbx-used-weight-1m') ?? '';
  if (!/^\d{1,15}$/.test(used)) return info;
  const date = Date.parse(response.headers.get('date') ?? '');
  // The windows are the minutes of the server's clock, which has whole seconds in this field.
  const passed = Number.isNaN(date) ? 0 : (date / 1000) % WINDOW_SECONDS;
  info.limits.push({
    name: 'weight',
    unit: 'weight',
    limit: quota,
    remaining: Math.max(0, quota - Number(used)),
    resetSeconds: WINDOW_SECONDS - passed,
    // The date is rounded down, so this time is too long rather than too short.
    exact: true,
    partitionKey: null,
    cost: null,
  });
  return info;
}
