// limitFetch is a fetch that sends each request when the limits allow it, obeys what responses report, and
// retries refused requests if they can be repeated.

import { invalidNumber, invalidValue, show } from '../common/errors.js';
import { isInstance } from '../common/kinds.js';
import { count, readOptions } from '../common/options.js';
import type { RateLimitInfo } from '../headers/types.js';
import { Deadline } from './deadline.js';
import type { Lease } from './lease.js';
import { REQUEST_OPTIONS, type RequestOptions, readRequestOptions } from './options.js';
import { OutgoingRequest, type Send } from './outgoing.js';
import { PolicyLimiter } from './policy-limiter.js';
import { isRefusal, readLimits, readViolatedPolicies } from './response.js';
import { type PoolAcquireOptions, type PoolUpdateContext, UpstreamPool } from './upstream-pool.js';

/** The options of `limitFetch`. */
export interface LimitFetchOptions extends RequestOptions {
  /** Seconds from the call to the response, including all waiting and attempts. Default: none. */
  deadlineSeconds?: number | undefined;
  /** The maximum number of times that a request is sent, at least 1; 1 disables retries. Default: 3. */
  maxAttempts?: number | undefined;
  /** The methods that may be retried. Default: GET, HEAD, PUT, DELETE, OPTIONS and TRACE. */
  retryMethods?: readonly string[] | undefined;
  /** The protocol for nodes of a pool that are given as hosts without one. Default: `https`. */
  protocol?: 'http' | 'https' | undefined;
}

type FetchSettings = ReturnType<typeof readSettings>;

/** The common interface of a pool and of a single limiter, which has no nodes. */
interface Upstream {
  acquire(options: PoolAcquireOptions): Promise<Grant>;
  update(info: RateLimitInfo, status: number, context: PoolUpdateContext): void;
  fail(lease: Lease): void;
  /** The origins of the nodes by their names. Without a pool it is undefined: requests go to their own URLs. */
  origins?: ReadonlyMap<string, string>;
}

interface Grant {
  node?: string;
  lease: Lease;
}

/** The result of an attempt, and whether another attempt makes sense. */
type Outcome = { response: Response; canRetry: boolean } | { error: unknown; canRetry: true };

const OPTIONS = [...REQUEST_OPTIONS, 'maxAttempts', 'retryMethods', 'protocol'];
const IDEMPOTENT_METHODS = ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'TRACE'];

/**
 * Returns a fetch whose requests wait for quota of `limiter` and report their responses to it. With a pool, a
 * request goes to the node that is expected to answer first; only path, query and fragment of its URL count.
 *
 * After 429, 503 or no response it retries, with a pool on another node if possible, provided that the method
 * is in `retryMethods` and the body is not a stream. When it gives up, it returns the last response unchanged.
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
  const settings = readSettings(options);
  const upstream = upstreamOf(limiter, settings.protocol);
  return async (input, init) => {
    const request = new OutgoingRequest(input, init, upstream.origins !== undefined);
    return new FetchCall(fetch, upstream, settings, request).run();
  };
}

/** One call of fetch, which may need several attempts. */
class FetchCall {
  readonly #fetch: typeof globalThis.fetch;
  readonly #upstream: Upstream;
  readonly #request: OutgoingRequest;
  readonly #deadline: Deadline;
  readonly #cost: number;
  readonly #priority: number;
  readonly #maxAttempts: number;
  readonly #triedNodes: string[] = [];

  constructor(
    fetch: typeof globalThis.fetch,
    upstream: Upstream,
    settings: FetchSettings,
    request: OutgoingRequest,
  ) {
    this.#fetch = fetch;
    this.#upstream = upstream;
    this.#request = request;
    this.#deadline = new Deadline(settings.deadlineSeconds);
    const { url, method, isRepeatable } = request;
    this.#cost = settings.cost({ url, method });
    this.#priority = settings.priority({ url, method });
    const canRepeat = isRepeatable && settings.retryMethods.includes(method);
    this.#maxAttempts = canRepeat ? settings.maxAttempts : 1;
  }

  async run(): Promise<Response> {
    let outcome = await this.#attempt(await this.#acquire(), this.#maxAttempts === 1);
    for (let attempt = 2; outcome.canRetry && attempt <= this.#maxAttempts; attempt += 1) {
      const grant = await this.#acquireAgain(outcome);
      if (grant === undefined) break;
      discard(outcome);
      outcome = await this.#attempt(grant, attempt === this.#maxAttempts);
    }
    if ('error' in outcome) throw outcome.error;
    return outcome.response;
  }

  #acquire(): Promise<Grant> {
    return this.#upstream.acquire({
      cost: this.#cost,
      priority: this.#priority,
      signal: this.#request.signal,
      deadlineSeconds: this.#deadline.secondsLeft,
      exclude: this.#triedNodes,
    });
  }

  /** Returns undefined if the deadline or the queue allows no further attempt: then `outcome` is final. */
  async #acquireAgain(outcome: Outcome): Promise<Grant | undefined> {
    try {
      return await this.#acquire();
    } catch (error) {
      const { code } = Object(error) as { code?: unknown };
      if (code === 'ERR_LIMITER_DEADLINE' || code === 'ERR_LIMITER_QUEUE') return undefined;
      discard(outcome);
      throw error;
    }
  }

  async #attempt({ node = '', lease }: Grant, isLast: boolean): Promise<Outcome> {
    this.#triedNodes.push(node);
    const { signal } = this.#request;
    const send = this.#prepare(node, lease, isLast);
    const hadTime = this.#deadline.isHalfLeft;
    let response: Response;
    try {
      response = await this.#deadline.guard(signal, send);
    } catch (error) {
      return this.#onNoResponse(error, lease, hadTime);
    }
    const { info, ageSeconds } = readLimits(response.headers);
    const violated = await readViolatedPolicies(response, this.#deadline.secondsLeft, signal);
    this.#upstream.update(info, response.status, { lease, ageSeconds, violated });
    lease.release();
    signal?.throwIfAborted();
    return { response, canRetry: isRefusal(response.status) };
  }

  /** Returns the function that sends the request. If that fails, nothing was sent and the quota is refunded. */
  #prepare(node: string, lease: Lease, isLast: boolean): Send {
    try {
      this.#request.signal?.throwIfAborted();
      this.#deadline.throwIfPassed();
      const origin = this.#upstream.origins?.get(node);
      return this.#request.prepare(this.#fetch, origin, isLast);
    } catch (error) {
      lease.refund();
      throw error;
    }
  }

  /** Handles an attempt without a response. Its quota is spent unless the request can never be sent. */
  #onNoResponse(error: unknown, lease: Lease, hadTime: boolean): Outcome {
    if (this.#request.isUnsendable(error)) {
      lease.refund();
      throw error;
    }
    const isAborted = this.#request.signal?.aborted === true;
    // The node did not fail if the caller aborted, or if most of the time had passed before the attempt.
    if (isAborted || (this.#deadline.hasAborted && !hadTime)) lease.release();
    else this.#upstream.fail(lease);
    if (isAborted || this.#deadline.hasAborted) throw error;
    return { error, canRetry: true };
  }
}

/** Frees the connection of a response that no one will read. */
function discard(outcome: Outcome): void {
  if ('response' in outcome) outcome.response.body?.cancel().catch(() => {});
}

function upstreamOf(limiter: unknown, protocol: string): Upstream {
  if (isInstance(limiter, UpstreamPool)) {
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

function readSettings(options: unknown) {
  const given = readOptions('limitFetch', options, OPTIONS);
  const { retryMethods = IDEMPOTENT_METHODS, protocol = 'https' } = given;
  if (!Array.isArray(retryMethods) || retryMethods.some((name) => typeof name !== 'string')) {
    throw invalidValue('ERR_LIMITER_OPTION', 'retryMethods', retryMethods, 'an array of methods');
  }
  if (protocol !== 'http' && protocol !== 'https') {
    throw invalidValue('ERR_LIMITER_OPTION', 'protocol', protocol, "'http' or 'https'");
  }
  const maxAttempts = count(given, 'maxAttempts', 3);
  if (maxAttempts === 0) {
    throw invalidNumber('ERR_LIMITER_OPTION', 'maxAttempts', maxAttempts, 'at least 1');
  }
  return {
    ...readRequestOptions(given),
    maxAttempts,
    retryMethods: retryMethods.map((name: string) => name.toUpperCase()),
    protocol,
  };
}
