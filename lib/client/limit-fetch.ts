// limitFetch: a fetch that sends each request when it may go, obeys what the response says, and repeats
// what was refused where it can be repeated.

import { refused, refusedNumber, show } from '../common/errors.js';
import { isInstance } from '../common/kinds.js';
import { count, readOptions } from '../common/options.js';
import { Deadline } from './deadline.js';
import type { Lease } from './lease.js';
import { Outgoing, type Send } from './outgoing.js';
import { PolicyLimiter } from './policy-limiter.js';
import { REQUEST_OPTIONS, type RequestOptions, readRequestOptions } from './request-options.js';
import { isRefusal, readNews, violatedPolicies } from './response.js';
import { type PoolAcquireOptions, UpstreamPool } from './upstream-pool.js';

type Fetch = typeof globalThis.fetch;

export interface LimitFetchOptions extends RequestOptions {
  /** Seconds from the call to the response, waiting and all attempts included. Default: no end. */
  deadlineSeconds?: number | undefined;
  /** Most times that a request is sent, at least 1; 1: nothing is repeated. Default: 3. */
  maxAttempts?: number | undefined;
  /** Methods that may be repeated. Default: GET, HEAD, PUT, DELETE, OPTIONS and TRACE. */
  retryMethods?: readonly string[] | undefined;
  /** `http` or `https`: for nodes of a pool that do not say it themselves. Default: `https`. */
  protocol?: 'http' | 'https' | undefined;
}

type Settings = ReturnType<typeof readSettings>;

/** What a pool does; a limiter is one without nodes. */
interface Upstream extends Pick<UpstreamPool, 'update' | 'fail'> {
  acquire(options: PoolAcquireOptions): Promise<Grant>;
  /** Where the requests for a node go; none where they go where they say. */
  origins?: ReadonlyMap<string, string>;
}

interface Grant {
  node?: string;
  lease: Lease;
}

/** What came of an attempt, and whether another may do better. */
type Outcome = { response: Response; again: boolean } | { error: unknown; again: true };

const OPTIONS = [...REQUEST_OPTIONS, 'maxAttempts', 'retryMethods', 'protocol'];
const IDEMPOTENT = ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'TRACE'];

/**
 * A fetch like `fetch`, whose requests wait for quota of `limiter` and tell it what was answered. With a
 * pool, a request goes to the node that is expected to answer first: of its URL only path and query
 * count.
 *
 * After 429, 503 or no response it tries again, with a pool on another node if it can, where the method
 * is one of `retryMethods` and the body no stream. When it gives up, the last response is returned as it
 * is. Besides what `fetch` rejects with there are the errors of `acquire`: `ERR_LIMITER_DEADLINE`,
 * `ERR_LIMITER_QUEUE`, `ERR_LIMITER_COST`. A signal that aborts ends the waiting too.
 *
 * @throws `ERR_LIMITER_OPTION` for arguments that are not accepted, and for a node that is no host
 */
export function limitFetch(
  fetch: Fetch,
  limiter: PolicyLimiter | UpstreamPool,
  options?: LimitFetchOptions,
): Fetch {
  if (typeof fetch !== 'function') {
    throw refused('ERR_LIMITER_OPTION', 'fetch', fetch, 'a function');
  }
  const settings = readSettings(options);
  const upstream = upstreamOf(limiter, settings.protocol);
  return async (input, init) => {
    const request = new Outgoing(input, init, upstream.origins !== undefined);
    return new Call(fetch, upstream, settings, request).run();
  };
}

/** One call of fetch, which may take several attempts. */
class Call {
  readonly #fetch: Fetch;
  readonly #upstream: Upstream;
  readonly #request: Outgoing;
  readonly #deadline: Deadline;
  readonly #cost: number;
  readonly #priority: number;
  readonly #attempts: number;
  readonly #tried: string[] = [];

  constructor(fetch: Fetch, upstream: Upstream, settings: Settings, request: Outgoing) {
    this.#fetch = fetch;
    this.#upstream = upstream;
    this.#request = request;
    this.#deadline = new Deadline(settings.deadlineSeconds);
    const { url, method, isRepeatable } = request;
    this.#cost = settings.cost({ url, method });
    this.#priority = settings.priority({ url, method });
    const repeats = isRepeatable && settings.retryMethods.includes(method);
    this.#attempts = repeats ? settings.maxAttempts : 1;
  }

  async run(): Promise<Response> {
    let outcome = await this.#attempt(await this.#acquire(), this.#attempts === 1);
    for (let attempt = 2; outcome.again && attempt <= this.#attempts; attempt += 1) {
      const grant = await this.#acquireAgain(outcome);
      if (grant === undefined) break;
      discard(outcome);
      outcome = await this.#attempt(grant, attempt === this.#attempts);
    }
    if ('error' in outcome) throw outcome.error;
    return outcome.response;
  }

  #acquire(): Promise<Grant> {
    return this.#upstream.acquire({
      cost: this.#cost,
      priority: this.#priority,
      signal: this.#request.signal,
      deadlineSeconds: this.#deadline.left,
      exclude: this.#tried,
    });
  }

  /** undefined where there is no time or no room to wait for it: then what came so far has to do. */
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
    this.#tried.push(node);
    const { signal } = this.#request;
    const send = this.#prepare(node, lease, isLast);
    const hasTime = this.#deadline.isHalfLeft;
    let response: Response;
    try {
      response = await this.#deadline.guard(signal, send);
    } catch (error) {
      return this.#failed(error, lease, hasTime);
    }
    const { info, ageSeconds } = readNews(response.headers);
    const violated = await violatedPolicies(response, this.#deadline.left, signal);
    this.#upstream.update(info, response.status, { lease, ageSeconds, violated });
    lease.release();
    signal?.throwIfAborted();
    return { response, again: isRefusal(response.status) };
  }

  /** What sends it. Until then nothing is spent. */
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

  /** No response came. Where it may have arrived, its quota is spent. */
  #failed(error: unknown, lease: Lease, hadTime: boolean): Outcome {
    if (this.#request.cannotGo(error)) {
      lease.refund();
      throw error;
    }
    const isLeft = this.#request.signal?.aborted === true;
    // That nobody waits any more is no fault of a node, nor is it that most of the time was spent before.
    if (isLeft || (this.#deadline.isOver && !hadTime)) lease.release();
    else this.#upstream.fail(lease);
    if (isLeft || this.#deadline.isOver) throw error;
    return { error, again: true };
  }
}

/** Frees the connection of a response that nobody will read. */
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
  throw refused('ERR_LIMITER_OPTION', 'limiter', limiter, accepted);
}

function originOf(node: string, protocol: string): string {
  const text = /^https?:\/\//i.test(node) ? node : `${protocol}://${node}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.href !== `${url.origin}/`) {
    const accepted = "a host such as 'example.org:8080' or an origin such as 'http://localhost'";
    throw refused('ERR_LIMITER_OPTION', `node ${show(node)}`, node, accepted);
  }
  return url.origin;
}

function readSettings(options: unknown) {
  const given = readOptions('limitFetch', options, OPTIONS);
  const { retryMethods = IDEMPOTENT, protocol = 'https' } = given;
  if (!Array.isArray(retryMethods) || retryMethods.some((name) => typeof name !== 'string')) {
    throw refused('ERR_LIMITER_OPTION', 'retryMethods', retryMethods, 'an array of methods');
  }
  if (protocol !== 'http' && protocol !== 'https') {
    throw refused('ERR_LIMITER_OPTION', 'protocol', protocol, "'http' or 'https'");
  }
  const maxAttempts = count(given, 'maxAttempts', 3);
  if (maxAttempts === 0) {
    throw refusedNumber('ERR_LIMITER_OPTION', 'maxAttempts', maxAttempts, 'at least 1');
  }
  return {
    ...readRequestOptions(given),
    maxAttempts,
    retryMethods: retryMethods.map((name: string) => name.toUpperCase()),
    protocol,
  };
}
