// Servers without sockets, for the tests of the client, and a fetch that calls them in this process.

import { UpstreamPool } from 'relay-limiter/client';
import { afterEach } from 'vitest';
import { seeded } from '../support/random.js';

export interface Received {
  method: string;
  /** The path and the query. */
  url: string;
}

/** Answers a request. `at` is the number of requests before it. */
export type Answer = (request: Received, at: number) => Response | Promise<Response>;

export interface VirtualServer {
  readonly origin: string;
  readonly received: readonly Received[];
}

const servers = new Map<string, { answer: Answer; received: Received[] }>();
afterEach(() => servers.clear());

/** Starts a server that exists until the end of the test. */
export function serveVirtually(answer: Answer): VirtualServer {
  const origin = `http://node-${servers.size}.example`;
  const received: Received[] = [];
  servers.set(origin, { answer, received });
  return { origin, received };
}

/** Calls the virtual server of a URL. */
export const virtualFetch: typeof fetch = async (input, init) => {
  const { url, method } = new Request(input, init);
  const signal = init?.signal ?? (input instanceof Request ? input.signal : undefined);
  signal?.throwIfAborted();
  const { origin, pathname, search } = new URL(url);
  const server = servers.get(origin);
  if (server === undefined) throw new TypeError(`there is no ${origin}`);
  const request = { method, url: `${pathname}${search}` };
  const at = server.received.push(request) - 1;
  return new Promise((resolve, reject) => {
    signal?.addEventListener('abort', () => reject(signal.reason));
    Promise.resolve(server.answer(request, at)).then(resolve, reject);
  });
};

/** An answer that never comes. */
export const never = (): Promise<Response> => new Promise(() => {});

/** An answer that comes at once. */
export const good = (): Response => new Response('yes');

/** Refuses the first `times` requests with that status and those fields, then answers `yes`. */
export function refusingVirtually(
  times: number,
  status: number,
  headers: Record<string, string>,
): Answer {
  return (_, at) => (at < times ? new Response('no', { status, headers }) : good());
}

/** Returns a pool with these servers as nodes. */
export function virtualPoolOf(servers: VirtualServer[], quota = 1000): UpstreamPool {
  const file = servers.map(({ origin }) => [origin, { policies: [{ w: 1, v: quota }] }]);
  return new UpstreamPool(Object.fromEntries(file), { random: seeded(1) });
}

/** Returns the outcome of a promise, without waiting for it. */
export function watched(promise: Promise<unknown>): { resolved?: unknown; rejected?: unknown } {
  const outcome: { resolved?: unknown; rejected?: unknown } = {};
  promise.then(
    (value) => {
      outcome.resolved = value;
    },
    (reason) => {
      outcome.rejected = reason;
    },
  );
  return outcome;
}
