// Shared by the tests of the middleware and the plugin: requests without a server, and servers that are closed when the
// test is over.

import { createServer, IncomingMessage, type RequestListener, ServerResponse } from 'node:http';
import { type AddressInfo, Socket } from 'node:net';
import { parseRateLimitHeaders, type RateLimitInfo } from 'relay-limiter/headers';
import type { Next } from 'relay-limiter/http';
import { afterEach } from 'vitest';

export type Middleware = (request: IncomingMessage, response: ServerResponse, next: Next) => void;

/** The outcome of a request: either `next` was called, perhaps with an error, or the request was answered. */
export interface Outcome {
  passed: boolean;
  error: unknown;
  status: number;
  body: string;
  fields: Record<string, unknown>;
}

export interface Asking {
  address?: string;
  headers?: Record<string, string>;
  method?: string;
}

/** A request from the address, on a new connection. */
export function requestFrom({ address = '192.0.2.1', headers = {}, method = 'GET' }: Asking = {}) {
  const socket = new Socket();
  Object.defineProperty(socket, 'remoteAddress', { value: address });
  const request = new IncomingMessage(socket);
  Object.assign(request, { method, headers, httpVersionMajor: 1, httpVersionMinor: 1 });
  return request;
}

/** Calls the middleware with a request, and waits for its decision. */
export async function ask(middleware: Middleware, asking: Asking = {}): Promise<Outcome> {
  return outcomeOf(middleware, requestFrom(asking));
}

export function outcomeOf(middleware: Middleware, request: IncomingMessage): Promise<Outcome> {
  const response = new ServerResponse(request);
  return new Promise((resolve) => {
    const done = (passed: boolean, error?: unknown, body = '') =>
      resolve({ passed, error, status: response.statusCode, body, fields: response.getHeaders() });
    response.end = ((body: string) => {
      done(false, undefined, body);
      return response;
    }) as typeof response.end;
    middleware(request, response, (error) => done(error === undefined, error));
  });
}

const open = new Set<() => Promise<void>>();
afterEach(async () => {
  for (const close of open) await close();
  open.clear();
});

export interface Served {
  readonly origin: string;
  readonly port: number;
}

/** Starts a server on the loopback interface. */
export async function serve(listener: RequestListener): Promise<Served> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  open.add(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(() => resolve()));
  });
  const { port } = server.address() as AddressInfo;
  return { origin: `http://127.0.0.1:${port}`, port };
}

/** Calls `close` when the test is over. */
export function closeLater(close: () => Promise<void>): void {
  open.add(close);
}

/** The limits in a response's fields, parsed strictly by draft 11. */
export function strictly(headers: Headers): RateLimitInfo {
  const info = parseRateLimitHeaders(headers, { strict: true });
  if (info.ignored.length > 0) throw new Error(`not understood: ${info.ignored}`);
  return info;
}

/** Requests the URLs one after another, and returns the status codes. */
export async function statuses(urls: readonly string[], init?: RequestInit): Promise<number[]> {
  const found: number[] = [];
  for (const url of urls) {
    const response = await fetch(url, init);
    await response.arrayBuffer();
    found.push(response.status);
  }
  return found;
}

/** A list with `count` times the same URL. */
export function times(count: number, url: string): string[] {
  return Array.from({ length: count }, () => url);
}
