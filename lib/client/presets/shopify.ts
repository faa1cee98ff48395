// Shopify: leaky buckets, of requests (REST) or of points (GraphQL).

import { readOptions } from '../../common/options.js';
import type { RateLimitInfo } from '../../headers/types.js';
import type { LimitedRequest, PolicyLimiterOptions } from '../options.js';
import { ALL_METHODS, asAmount, asRecord, jsonOf, type LimiterPreset } from './preset.js';

/** Every plan empties a full bucket in this time. */
const BUCKET_SECONDS = 20;

/** Options of the preset `shopifyRest`. */
export interface ShopifyRestOptions {
  /** The requests that leave the bucket in a second: 2, or 20 with Plus. Default: 2. */
  requestsPerSecond?: number | undefined;
}

/** See `Presets.shopifyRest`. */
export function shopifyRest(options?: ShopifyRestOptions): LimiterPreset {
  const given = readOptions('presets.shopifyRest', options, [
    'requestsPerSecond',
  ]) as ShopifyRestOptions;
  const { requestsPerSecond = 2 } = given;
  return {
    limiter: leakyBucket('requests', requestsPerSecond),
    fetch: { retryMethods: ALL_METHODS },
  };
}

/** Options of the preset `shopifyGraphQL`. */
export interface ShopifyGraphQLOptions {
  /** The points that leave the bucket in a second: 100, or 1,000 with Plus. Default: 100. */
  pointsPerSecond?: number | undefined;
  /** Returns the requested cost of a query, in points. Default: 10. */
  pointsOf?: ((request: LimitedRequest) => number) | undefined;
}

/** See `Presets.shopifyGraphQL`. */
export function shopifyGraphQL(options?: ShopifyGraphQLOptions): LimiterPreset {
  const given = readOptions('presets.shopifyGraphQL', options, [
    'pointsPerSecond',
    'pointsOf',
  ]) as ShopifyGraphQLOptions;
  const { pointsPerSecond = 100, pointsOf = () => 10 } = given;
  return {
    limiter: leakyBucket('points', pointsPerSecond),
    fetch: {
      retryMethods: ALL_METHODS,
      cost: (request) => {
        // A larger cost could never be taken.
        return {
          requests: 1,
          points: Math.min(pointsOf(request), pointsPerSecond * BUCKET_SECONDS),
        };
      },
      read: async (response) => readCost(await jsonOf(response)),
      isRefusal: async (response) => isThrottled(await jsonOf(response)) || undefined,
    },
  };
}

/**
 * A bucket of 20 seconds. With half of twice the quota in one burst, the other half is refilled in a window, so the token
 * bucket of the limiter is that of the server.
 */
function leakyBucket(unit: string, perSecond: number): PolicyLimiterOptions {
  const quota = 2 * perSecond * BUCKET_SECONDS;
  const policy = { name: unit, quota, windowSeconds: BUCKET_SECONDS, unit };
  return { policies: [policy], algorithm: 'bucket', burstShare: 0.5 };
}

function isThrottled({ errors }: Record<string, unknown>): boolean {
  if (!Array.isArray(errors)) return false;
  return errors.some((error) => asRecord(asRecord(error)['extensions'])['code'] === 'THROTTLED');
}

function readCost(body: Record<string, unknown>): RateLimitInfo {
  const cost = asRecord(asRecord(body['extensions'])['cost']);
  const status = asRecord(cost['throttleStatus']);
  const [size, left, rate, requested] = [
    asAmount(status['maximumAvailable']),
    asAmount(status['currentlyAvailable']),
    asAmount(status['restoreRate']),
    asAmount(cost['requestedQueryCost']),
  ];
  const info: RateLimitInfo = { policies: [], limits: [], retryAfterSeconds: null, ignored: [] };
  if (left === undefined || rate === undefined || rate === 0) return info;
  if (isThrottled(body) && requested !== undefined) {
    info.retryAfterSeconds = Math.max(0, requested - left) / rate;
  }
  info.limits.push({
    name: 'points',
    unit: 'points',
    limit: size ?? null,
    remaining: left,
    // A point is restored in this time, so no more than what is left can be spent within it.
    resetSeconds: 1 / rate,
    exact: true,
    partitionKey: null,
    cost: asAmount(cost['actualQueryCost']) ?? null,
  });
  return info;
}
