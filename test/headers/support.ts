// What the tests of parseRateLimitHeaders share.

import {
  parseRateLimitHeaders,
  type RateLimitInfo,
  type ResponseHeaders,
} from 'relay-limiter/headers';

/** The time of receipt, in epoch milliseconds. */
export const NOW = Date.UTC(2026, 10, 22, 15, 20);
/** The result for a response without any field about limits. */
export const NOTHING: RateLimitInfo = {
  policies: [],
  limits: [],
  retryAfterSeconds: null,
  ignored: [],
};

/** Parses fields of a response that was received at NOW. */
export function parse(headers: ResponseHeaders, options = {}): RateLimitInfo {
  return parseRateLimitHeaders(headers, { now: NOW, ...options });
}
