// limitFetch is a fetch that sends each request when the limits allow it, obeys what responses report, and
// retries refused requests if they can be repeated.

import { invalidNumber, invalidValue, show } from '../common/errors.js';
import { isInstance } from '../common/kinds.js';
import { count, readOptions } from '../common/options.js';
import type { RateLimitInfo } from '../headers/types.js';
import { FetchCall, type FetchSettings, type Upstream } from './fetch-call.js';
import { REQUEST_OPTIONS, type RequestOptions, readRequestOptions } from './options.js';
import { OutgoingRequest } from './outgoing.js';
import { PolicyLimiter } from './policy-limiter.js';
import { RESPONSE_OPTIONS, type ResponseOptions, readResponseOptions } from './response-options.js';
import { UpstreamPool } from './upstream-pool.js';

/**
 * The options of `limitFetch`. The functions may read the body of a response if they clone it before. What they throw
 * rejects the call.
 */
export interface LimitFetchOptions
  extends RequestOptions,
    Omit<ResponseOptions, 'read' | 'isRefusal'> {
  /** Seconds from the call to the response, including all waiting and attempts. Default: none. */
  deadlineSeconds?: number | undefined;
  /** The maximum number of times that a request is sent, at least 1; 1 disables retries. Default: 3. */
  maxAttempts?: number | undefined;
  /** The methods that may be retried. Default: GET, HEAD, PUT, DELETE, OPTIONS and TRACE. */
  retryMethods?: readonly string[] | undefined;
  /**
   * Whether POST requests with a JSON-RPC 2.0 body may be retried, too; or a function that returns it for a JSON-RPC
   * method, of which all in a batch must be accepted. The body must be a string or bytes. Default: false.
   */
  retryJsonRpc?: boolean | ((method: string) => boolean) | undefined;
  /**
   * The statuses besides refusals after which a request is retried, with a pause unless another node is left. Default:
   * 500, 502 and 504 with a pool, none with a limiter.
   */
  retryStatuses?: readonly number[] | undefined;
  /** See `ResponseOptions.read`. */
  read?: ((response: Response) => RateLimitInfo | PromiseLike<RateLimitInfo>) | undefined;
  /** See `ResponseOptions.isRefusal`. */
  isRefusal?:
    | ((
        response: Response,
        info: RateLimitInfo,
      ) => boolean | undefined | PromiseLike<boolean | undefined>)
    | undefined;
  /** The protocol for nodes of a pool that are given as hosts without one. Default: `https`. */
  protocol?: 'http' | 'https' | undefined;
}

const OPTIONS = [
  ...REQUEST_OPTIONS,
  ...RESPONSE_OPTIONS,
  'maxAttempts',
  'retryMethods',
  'retryJsonRpc',
  'retryStatuses',
  'protocol',
];
const IDEMPOTENT_METHODS = ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'TRACE'];
/** Failures of a server, which another server may not have. */
const POOL_RETRY_STATUSES = [500, 502, 504];

/**
 * Returns a fetch whose requests wait for quota of `limiter` and report their responses to it. With a pool, a
 * request goes to the node that is expected to answer first; only path, query and fragment of its URL count.
 *
 * After a refusal (429, 503, or 403 that says when to come back) or no response it retries, with a pool on another
 * node if possible, provided that the method is in `retryMethods` and the body is not a stream. Without a response and
 * without another node it pauses for a second, 2, 4, ... at most and half of that at least. When it gives up, it returns
 * the last response unchanged.
 * Besides the errors of `fetch`, a call rejects with those of `acquire`: `ERR_LIMITER_DEADLINE`,
 * `ERR_LIMITER_QUEUE`, `ERR_LIMITER_COST`. A signal that aborts also ends the waiting.
 *
 * @throws ERR_LIMITER_OPTION for invalid arguments, and for a node that is not a host or an origin
 *
 * @example
 * import { createServer } from 'node:http';
 * import type { AddressInfo } from 'node:net';
 * import { limitFetch, PolicyLimiter } from 'relay-limiter/client';
 *
 * const server = createServer((request, response) => response.end(`you asked for ${request.url}`));
 * await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
 * const { port } = server.address() as AddressInfo;
 *
 * const limiter = new PolicyLimiter({ policies: [{ quota: 5, windowSeconds: 1 }] });
 * const limitedFetch = limitFetch(fetch, limiter, { deadlineSeconds: 30 });
 *
 * const response = await limitedFetch(`http://127.0.0.1:${port}/blocks`);
 * console.log(response.status, await response.text());
 * server.close();
 */
export function limitFetch(
  fetch: typeof globalThis.fetch,
  limiter: PolicyLimiter | UpstreamPool,
  options?: LimitFetchOptions,
): typeof globalThis.fetch {
  if (typeof fetch !== 'function') {
    throw invalidValue('ERR_LIMITER_OPTION', 'fetch', fetch, 'a function');
  }
  const upstream = upstreamOf(limiter, options);
  const settings = readSettings(options, upstream.origins !== undefined);
  return async (input, init) => {
    const request = new OutgoingRequest(input, init, upstream.origins !== undefined);
    return new FetchCall(fetch, upstream, settings, request).run();
  };
}

function upstreamOf(limiter: unknown, options: unknown): Upstream {
  if (isInstance(limiter, UpstreamPool)) {
    const protocol = readProtocol(options);
    return {
      acquire: (options) => limiter.acquire(options),
      update: (info, status, context) => limiter.update(info, status, context),
      fail: (lease) => limiter.fail(lease),
      origins: new Map(limiter.nodes.map((node) => [node, originOf(node, protocol)])),
    };
  }
  if (isInstance(limiter, PolicyLimiter)) {
    return {
      acquire: async ({ exclude: _, ...options }) => ({ lease: await limiter.acquire(options) }),
      update: (info, status, context) => limiter.update(info, status, context),
      fail: (lease) => lease.release(),
    };
  }
  const accepted = 'a PolicyLimiter or an UpstreamPool';
  throw invalidValue('ERR_LIMITER_OPTION', 'limiter', limiter, accepted);
}

function originOf(node: string, protocol: string): string {
  const text = /^https?:\/\//i.test(node) ? node : `${protocol}://${node}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.href !== `${url.origin}/`) {
    const accepted = "a host such as 'example.org:8080' or an origin such as 'http://localhost'";
    throw invalidValue('ERR_LIMITER_OPTION', `node ${show(node)}`, node, accepted);
  }
  return url.origin;
}

function readProtocol(options: unknown): string {
  const { protocol = 'https' } = readOptions('limitFetch', options, OPTIONS);
  if (protocol === 'http' || protocol === 'https') return protocol;
  throw invalidValue('ERR_LIMITER_OPTION', 'protocol', protocol, "'http' or 'https'");
}

function readSettings(options: unknown, isPool: boolean): FetchSettings {
  readProtocol(options);
  const given = readOptions('limitFetch', options, OPTIONS);
  const {
    retryMethods = IDEMPOTENT_METHODS,
    retryStatuses = isPool ? POOL_RETRY_STATUSES : [],
    retryJsonRpc = false,
  } = given;
  if (!Array.isArray(retryMethods) || retryMethods.some((name) => typeof name !== 'string')) {
    throw invalidValue('ERR_LIMITER_OPTION', 'retryMethods', retryMethods, 'an array of methods');
  }
  if (!Array.isArray(retryStatuses) || !retryStatuses.every(Number.isInteger)) {
    const accepted = 'an array of status codes';
    throw invalidValue('ERR_LIMITER_OPTION', 'retryStatuses', retryStatuses, accepted);
  }
  const maxAttempts = count(given, 'maxAttempts', 3);
  if (maxAttempts === 0) {
    throw invalidNumber('ERR_LIMITER_OPTION', 'maxAttempts', maxAttempts, 'at least 1');
  }
  return {
    ...readRequestOptions(given),
    reading: readResponseOptions(given),
    maxAttempts,
    retryMethods: new Set(retryMethods.map((name: string) => name.toUpperCase())),
    retryStatuses: new Set(retryStatuses as number[]),
    retryJsonRpc: readRetryJsonRpc(retryJsonRpc),
  };
}

function readRetryJsonRpc(given: unknown): FetchSettings['retryJsonRpc'] {
  if (typeof given === 'function') return given as (method: string) => boolean;
  if (typeof given === 'boolean') return given ? () => true : undefined;
  throw invalidValue('ERR_LIMITER_OPTION', 'retryJsonRpc', given, 'true, false or a function');
}
