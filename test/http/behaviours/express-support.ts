// Requests without a server, for the behaviours of express-rate-limit.

import { type IncomingMessage, ServerResponse } from 'node:http';
import { rateLimit as createLimit, type RateLimitOptions } from 'relay-limiter/http';
import { manualClock } from '../../support/limiters.js';
import { type Asking, ask, type Middleware, requestFrom } from '../support.js';

export const clock = manualClock();
export const WINDOW = { windowSeconds: 60, clock };
export const FAILURE = new Error('420: enhance your calm');
export const fails = () => {
  throw FAILURE;
};
export const rejects = () => Promise.reject(FAILURE);

export function rateLimit(options: RateLimitOptions) {
  return createLimit('limiter' in options ? options : { ...WINDOW, ...options });
}

/** The statuses of so many requests; `passed` is 200. */
export async function statusesOf(limit: Middleware, asked: readonly Asking[]): Promise<number[]> {
  const found: number[] = [];
  for (const asking of asked) {
    const { passed, status } = await ask(limit, asking);
    found.push(passed ? 200 : status);
  }
  return found;
}

export const times = (count: number, asking: Asking = {}) =>
  Array.from({ length: count }, () => asking);
export const statuses = (limit: Middleware, count: number) => statusesOf(limit, times(count));
export const by = (key: string): Asking => ({ headers: { key } });
export const ofKey = ({ headers }: IncomingMessage) => String(headers['key']);

/** The last of so many outcomes. */
export async function last(limit: Middleware, count: number, asking?: Asking) {
  for (let n = 1; n < count; n += 1) await ask(limit, asking);
  return ask(limit, asking);
}

/** Passes a request, and ends its response with a status code, or closes its connection. */
export function answer(
  limit: Middleware,
  statusCode: number,
  event = 'finish',
  asking: Asking = {},
) {
  const request = requestFrom(asking);
  const response = new ServerResponse(request);
  limit(request, response, () => {});
  response.statusCode = statusCode;
  response.emit(event);
}

export const NAMES = { 6: 'ratelimit-remaining', legacy: 'x-ratelimit-remaining' } as const;
export const fieldsOf = async (headers: RateLimitOptions['headers'], more: RateLimitOptions = {}) =>
  (await ask(rateLimit({ limit: 5, headers, ...more }))).fields;
