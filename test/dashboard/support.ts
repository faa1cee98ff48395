// Shared by the tests of the dashboard: limiters to observe, requests with any header, and streams of events.

import { once } from 'node:events';
import { type IncomingMessage, type OutgoingHttpHeaders, request } from 'node:http';
import { OrderbookRateLimiter, RateLimiter, RuleLimiter } from 'relay-limiter';
import { createDashboard, type DashboardOptions } from 'relay-limiter/dashboard';
import { expect, onTestFinished } from 'vitest';
import type { Hello, Listing, Sample } from '../../dist/dashboard/messages.js';
import { manualClock, TESTS_NATIVE } from '../support/limiters.js';

export type { Hello, Listing, Sample };

/** The memory of a limiter in a sample: only the native engine measures it. */
export const MEMORY = TESTS_NATIVE ? expect.any(Number) : null;

/** The seconds between two samples. */
export const INTERVAL = 1;

/** Limiters with a clock that only the test advances. */
export function limiters(clock: () => number = manualClock()) {
  const messages = new RateLimiter({
    rateLimit: 1,
    burstLimit: 10,
    disconnectThreshold: 20,
    clock,
  });
  const books = new OrderbookRateLimiter({ violationBanThreshold: 1, banDuration: 600, clock });
  return { messages, books };
}

/** A RuleLimiter with a scope of addresses, one of texts without a ban policy, and a single one. */
export function ruleLimiter(clock: () => number = manualClock()): RuleLimiter {
  return new RuleLimiter({
    engine: 'js',
    clock,
    scopes: { address: { kind: 'address' }, account: {}, server: { single: true } },
    rules: {
      messages: { scope: 'address', rateLimit: 1, burstLimit: 2 },
      events: { scope: 'account', rateLimit: 1, burstLimit: 100 },
      everybody: { scope: 'server', rateLimit: 1, burstLimit: 1, dryRun: true },
    },
    bans: { address: { violations: 3, withinSeconds: 600, seconds: [60, Infinity] } },
  });
}

/** Begins a ban of the peer. */
export function ban(books: OrderbookRateLimiter, key: string): void {
  while (!books.isBanned(key)) books.check(key);
}

/** A dashboard with its own server. Both are closed after the test. */
export async function served(options: Partial<DashboardOptions> = {}) {
  const watchedLimiters = limiters();
  const dashboard = createDashboard({
    limiters: watchedLimiters,
    intervalSeconds: INTERVAL,
    ...options,
  });
  onTestFinished(() => dashboard.close());
  return { ...watchedLimiters, dashboard, url: await dashboard.listen() };
}

export interface Asked {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

interface Asking {
  method?: string;
  headers?: OutgoingHttpHeaders;
  body?: string;
}

/** Sends a request with any headers; `fetch` refuses some. */
export async function ask(url: string, { method = 'GET', headers, body }: Asking = {}) {
  const asking = request(url, { method, headers: headers ?? {}, agent: false });
  asking.end(body);
  const [response] = (await once(asking, 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return { status: response.statusCode, headers: response.headers, body: text } as Asked;
}

/** Requests that a ban is lifted. */
export function lift(url: string, what: unknown, headers: OutgoingHttpHeaders = {}) {
  return post(url, 'lift', what, headers);
}

/** Posts JSON. */
export function post(url: string, name: string, what: unknown, headers: OutgoingHttpHeaders = {}) {
  return ask(new URL(name, url).href, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: typeof what === 'string' ? what : JSON.stringify(what),
  });
}

/** Opens a stream of events and reads it from the start. */
export async function events(url: string, headers: OutgoingHttpHeaders = {}) {
  const asking = request(new URL('events', url), { headers, agent: false }).end();
  asking.on('error', () => {});
  onTestFinished(() => void asking.destroy());
  const [response] = (await once(asking, 'response')) as [IncomingMessage];
  response.on('error', () => {});
  let text = '';
  const take = () => {
    const end = text.indexOf('\n\n');
    if (end < 0) return undefined;
    const [, event, data] =
      /^(?:retry: \d+\n)?event: (.*)\ndata: (.*)$/.exec(text.slice(0, end)) ?? [];
    text = text.slice(end + 2);
    return { event: String(event), data: JSON.parse(String(data)) };
  };
  response.setEncoding('utf8').on('data', (chunk) => {
    text += chunk;
  });
  // Not by `once`, which rejects if the response ends early.
  const ended = new Promise<void>((resolve) => response.on('close', () => resolve()));
  /** The next event with this name; skips other events. */
  async function next(event: 'hello'): Promise<Hello>;
  async function next(event: 'sample'): Promise<Sample>;
  async function next(event: 'listing'): Promise<Listing>;
  async function next(event: 'alive'): Promise<null>;
  async function next(event: string): Promise<unknown> {
    for (;;) {
      const found = take();
      if (found?.event === event) return found.data;
      if (found === undefined) await once(response, 'data');
    }
  }
  return { status: response.statusCode, response, next, ended, stop: () => asking.destroy() };
}
