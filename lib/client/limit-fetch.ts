// limitFetch is a fetch that sends each request when the limits allow it, obeys what responses report, and
// retries refused requests if they can be repeated.

import { invalidNumber, invalidValue } from '../common/errors.js';
import { isArray } from '../common/kinds.js';
import { count, positive, readOptions } from '../common/options.js';
import type { RateLimitInfo } from '../headers/types.js';
import { FetchCall, type FetchSettings, type Upstream } from './fetch-call.js';
import {
  REQUEST_OPTIONS,
  type RequestOptions,
  readRequestOptions,
  requireFunction,
} from './options.js';
import { OutgoingRequest } from './outgoing.js';
import type { PolicyLimiter } from './policy-limiter.js';
import type { PolicyLimiterGroup, PolicyLimiterGroupOptions } from './policy-limiter-group.js';
import { RESPONSE_OPTIONS, type ResponseOptions, readResponseOptions } from './response-options.js';
import type { UpstreamPool } from './upstream-pool.js';
import { joinUpstreams, upstreamOf } from './upstreams.js';

/**
 * The options of `limitFetch`. The functions may read the body of a response if they clone it before. What they throw
 * rejects the call.
 */
export interface LimitFetchOptions
  extends RequestOptions,
    Omit<ResponseOptions, 'read' | 'isRefusal' | 'isCommon'> {
  /** Seconds from the call to the response, including all waiting and attempts. Default: none. */
  deadlineSeconds?: number | undefined;
  /**
   * Seconds in which an attempt must be answered, greater than 0; a body may take longer. An attempt that takes longer
   * is aborted, and repeated as one without a response, with a pool on another node. A node may have a time of its own
   * (`timeoutSeconds`). Default: 30 with a pool, and less for a probe (`UpstreamPool.probeSeconds`) if the request may be
   * repeated; else Infinity.
   */
  attemptSeconds?: number | undefined;
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
  /** See `ResponseOptions.isCommon`. */
  isCommon?:
    | ((response: Response, info: RateLimitInfo) => boolean | PromiseLike<boolean>)
    | undefined;
  /** The protocol for nodes of a pool that are given as hosts without one. Default: `https`. */
  protocol?: 'http' | 'https' | undefined;
}

const OPTIONS = [
  ...REQUEST_OPTIONS,
  ...RESPONSE_OPTIONS,
  'attemptSeconds',
  'maxAttempts',
  'retryMethods',
  'retryJsonRpc',
  'retryStatuses',
  'protocol',
];
const IDEMPOTENT_METHODS = ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'TRACE'];
/** Failures of a server, which another server may not have. */
const POOL_RETRY_STATUSES = [500, 502, 504];
/** Long enough for slow answers, and short enough that a node that never answers does not hold up much. */
const POOL_ATTEMPT_SECONDS = 30;

/**
 * Returns a fetch whose requests wait for quota of `limiter` and report their responses to it. With a pool, a
 * request goes to the node that is expected to answer first; only path, query and fragment of its URL count. With a
 * group, it takes the limiter of its `key`, which is the host by default, so that a refusal of one host holds back no
 * other; instead of a group, its options are enough. If `fetch` is itself a limited fetch, each attempt takes the quotas of both at the same moment, and the options
 * for retries are those of the outer one.
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
  limiter: PolicyLimiter | PolicyLimiterGroup | UpstreamPool | PolicyLimiterGroupOptions,
  options?: LimitFetchOptions,
): typeof globalThis.fetch {
  requireFunction(fetch, 'fetch');
  const given = readOptions('limitFetch', options, OPTIONS);
  const { cost, key } = readRequestOptions(given);
  const own = upstreamOf(limiter, { cost, key, protocol: readProtocol(given) });
  const inner = limitedFetches.get(fetch);
  const joined = inner && joinUpstreams(own, inner.upstream, { outer: cost, inner: inner.cost });
  const [upstream, send] = joined === undefined ? [own, fetch] : [joined, inner?.fetch ?? fetch];
  const hasNodes = upstream.nodes !== undefined;
  const settings = readSettings(given, hasNodes);
  const limitedFetch: typeof globalThis.fetch = (input, init) => {
    try {
      const request = new OutgoingRequest(input, init, hasNodes);
      return new FetchCall(send, upstream, settings, request).run();
    } catch (error) {
      return Promise.reject(error);
    }
  };
  limitedFetches.set(limitedFetch, { fetch: send, upstream, cost });
  return limitedFetch;
}

/** What the functions that `limitFetch` has returned are made of, for those that call one another. */
const limitedFetches = new WeakMap<
  typeof globalThis.fetch,
  {
    readonly fetch: typeof globalThis.fetch;
    readonly upstream: Upstream;
    readonly cost: FetchSettings['cost'];
  }
>();

type Given = Readonly<Record<string, unknown>>;

function readProtocol({ protocol = 'https' }: Given): string {
  if (protocol === 'http' || protocol === 'https') return protocol;
  throw invalidValue('ERR_LIMITER_OPTION', 'protocol', protocol, "'http' or 'https'");
}

function readAttemptSeconds(given: Given, isPool: boolean): number {
  const { attemptSeconds = isPool ? POOL_ATTEMPT_SECONDS : Infinity } = given;
  return attemptSeconds === Infinity ? Infinity : positive({ attemptSeconds }, 'attemptSeconds');
}

function readSettings(given: Given, isPool: boolean): FetchSettings {
  const {
    retryMethods = IDEMPOTENT_METHODS,
    retryStatuses = isPool ? POOL_RETRY_STATUSES : [],
    retryJsonRpc = false,
  } = given;
  if (!isArray(retryMethods) || retryMethods.some((name) => typeof name !== 'string')) {
    throw invalidValue('ERR_LIMITER_OPTION', 'retryMethods', retryMethods, 'an array of methods');
  }
  if (!isArray(retryStatuses) || !retryStatuses.every(Number.isInteger)) {
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
    attemptSeconds: readAttemptSeconds(given, isPool),
    shortensProbes: given['attemptSeconds'] === undefined,
    maxAttempts,
    retryMethods: new Set((retryMethods as string[]).map((name: string) => name.toUpperCase())),
    retryStatuses: new Set(retryStatuses as number[]),
    retryJsonRpc: readRetryJsonRpc(retryJsonRpc),
  };
}

function readRetryJsonRpc(given: unknown): FetchSettings['retryJsonRpc'] {
  if (typeof given === 'function') return given as (method: string) => boolean;
  if (typeof given === 'boolean') return given ? () => true : undefined;
  throw invalidValue('ERR_LIMITER_OPTION', 'retryJsonRpc', given, 'true, false or a function');
}
