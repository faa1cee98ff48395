// What presets consist of, and what they share.

import type { LimitFetchOptions } from '../limit-fetch.js';
import type { PolicyLimiterOptions } from '../options.js';
import type { PolicyLimiterGroupOptions } from '../policy-limiter-group.js';

/** Options for the API of one vendor. A copy, which may be changed. */
export interface LimiterPreset {
  /** Options for a `PolicyLimiter`. */
  limiter: PolicyLimiterOptions;
  /** Options for `limitFetch`. */
  fetch: LimitFetchOptions;
}

/** Options for the API of a vendor that limits routes separately. A copy, which may be changed. */
export interface GroupPreset {
  /** Options for a `PolicyLimiterGroup`. */
  group: PolicyLimiterGroupOptions;
  /** Options for `limitFetch`. */
  fetch: LimitFetchOptions;
}

/** The methods that are sent again after a refusal although they are not idempotent. */
export const ALL_METHODS: readonly string[] = [
  ...['GET', 'HEAD', 'OPTIONS', 'TRACE'],
  ...['POST', 'PUT', 'PATCH', 'DELETE'],
];

const bodies = new WeakMap<Response, Promise<Record<string, unknown>>>();

/** Returns the JSON object in the body of a response, which stays readable; an empty object for any other body. */
export function jsonOf(response: Response): Promise<Record<string, unknown>> {
  const known = bodies.get(response);
  if (known !== undefined) return known;
  const reading = readJson(response);
  bodies.set(response, reading);
  return reading;
}

async function readJson(response: Response): Promise<Record<string, unknown>> {
  try {
    return asRecord(JSON.parse(await response.clone().text()));
  } catch {
    return {};
  }
}

/** Returns the JSON object in the body of a request; an empty object for any other body. */
export function jsonOfRequest(body: unknown): Record<string, unknown> {
  try {
    return typeof body === 'string' ? asRecord(JSON.parse(body)) : {};
  } catch {
    return {};
  }
}

/** Returns an object as it is, and an empty object for any other value. */
export function asRecord(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

/** Returns a finite number of at least 0; undefined for any other value. */
export function asAmount(value: unknown): number | undefined {
  return typeof value === 'number' && value >= 0 && value < Infinity ? value : undefined;
}

/** Returns the path of a URL, which may be relative. */
export function pathOf(url: string): string {
  return new URL(url, 'http://host').pathname;
}
