// One call of limitFetch: it waits for quota, sends the request, reports the response, and repeats this if the request
// was refused or failed.

import type { RateLimitInfo } from '../headers/types.js';
import { destroyBody, discardBody, watchBody } from './bodies.js';
import type { Costs } from './cost.js';
import { Deadline, onAbort, startTimer } from './deadline.js';
import { jsonRpcMethods } from './json-rpc.js';
import type { Lease } from './lease.js';
import type { AcquireOptions, LimitedRequest, readRequestOptions } from './options.js';
import type { OutgoingRequest, Send, Target } from './outgoing.js';
import type { GroupUpdateContext } from './policy-limiter-group.js';
import { readViolatedPolicies } from './response.js';
import { type ReadResponse, type ResponseSettings, readFetchResponse } from './response-options.js';

/** Validated options of `limitFetch`. */
export interface FetchSettings extends ReturnType<typeof readRequestOptions> {
  readonly reading: ResponseSettings<
    Response,
    RateLimitInfo | PromiseLike<RateLimitInfo>,
    boolean | undefined | PromiseLike<boolean | undefined>,
    boolean | PromiseLike<boolean>
  >;
  /** Seconds in which an attempt must be answered; Infinity for no limit. */
  readonly attemptSeconds: number;
  /** Whether a probe of a node may get less time. */
  readonly shortensProbes: boolean;
  readonly maxAttempts: number;
  readonly retryMethods: ReadonlySet<string>;
  readonly retryStatuses: ReadonlySet<number>;
  /** Whether a POST that calls this JSON-RPC method may be retried. */
  readonly retryJsonRpc: ((method: string) => boolean) | undefined;
}

/** The common interface of a pool, of a group and of a single limiter. */
export interface Upstream {
  acquire(options: UpstreamAcquireOptions, request: LimitedRequest): Grant | Promise<Grant>;
  update(info: RateLimitInfo, status: number, context: GroupUpdateContext): void;
  fail(lease: Lease): void;
  /** The nodes of a pool. Without a pool it is undefined: requests go to their own URLs. */
  readonly nodes?: UpstreamNodes;
}

export interface UpstreamAcquireOptions extends AcquireOptions {
  /** The nodes to avoid. Only upstreams with nodes receive it. */
  readonly exclude?: readonly string[];
}

export interface UpstreamNodes {
  /** Returns the number of nodes. */
  count(): number;
  /** Returns where and how the requests to a node are sent. @throws ERR_LIMITER_OPTION for a node without an origin */
  target(node: string): Target;
  /** Returns the seconds in which a request must be answered if it is only a probe of its node, else Infinity. */
  probeSeconds(lease: Lease): number;
}

export interface Grant {
  node?: string;
  lease: Lease;
}

/** The result of an attempt. */
type Outcome = ({ response: Response } | { error: unknown }) & {
  /** Whether another attempt makes sense. */
  readonly canRetry: boolean;
  /** Whether the attempt failed without a refusal, after which nothing but a pause delays the next attempt. */
  readonly needsPause: boolean;
};

/** The maximum of the first pause, in seconds. It doubles with each attempt. */
const FIRST_PAUSE_SECONDS = 1;

export class FetchCall {
  readonly #fetch: typeof globalThis.fetch;
  readonly #upstream: Upstream;
  readonly #settings: FetchSettings;
  readonly #request: OutgoingRequest;
  readonly #deadline: Deadline;
  readonly #limited: LimitedRequest;
  readonly #cost: number | Costs;
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
    this.#settings = settings;
    this.#request = request;
    this.#deadline = new Deadline(settings.deadlineSeconds);
    const { url, method, body } = request;
    this.#limited = { url, method, body };
    this.#cost = settings.cost(this.#limited);
    this.#priority = settings.priority(this.#limited);
    this.#maxAttempts = request.isRepeatable && this.#canRepeat() ? settings.maxAttempts : 1;
  }

  async run(): Promise<Response> {
    const { hasNodeStream, signal } = this.#request;
    // Awaited even if it is no promise, so that a caller can still abort what was just called.
    const first = await (hasNodeStream ? this.#acquireForStream() : this.#acquire(signal));
    let outcome = await this.#attempt(first, this.#maxAttempts === 1);
    for (let attempt = 2; outcome.canRetry && attempt <= this.#maxAttempts; attempt += 1) {
      const grant = await this.#acquireAgain(outcome, attempt);
      if (grant === undefined) break;
      discard(outcome);
      outcome = await this.#attempt(grant, attempt === this.#maxAttempts);
    }
    if ('error' in outcome) throw outcome.error;
    return outcome.response;
  }

  #canRepeat(): boolean {
    const { method, body } = this.#request;
    const { retryMethods, retryJsonRpc } = this.#settings;
    if (retryMethods.has(method)) return true;
    if (retryJsonRpc === undefined || method !== 'POST') return false;
    const called = jsonRpcMethods(body);
    return called.length > 0 && called.every((name) => retryJsonRpc(name));
  }

  /** Acquires the lease of a request whose body is a stream of Node. If that fails meanwhile, it ends the waiting. */
  async #acquireForStream(): Promise<Grant> {
    const { body, signal } = this.#request;
    const waiting = new AbortController();
    watchBody(body, (error) => waiting.abort(error));
    const unfollow = onAbort(signal, () => waiting.abort(signal?.reason));
    try {
      signal?.throwIfAborted();
      return await this.#acquire(waiting.signal);
    } catch (error) {
      destroyBody(body);
      throw error;
    } finally {
      unfollow();
    }
  }

  #acquire(signal: AbortSignal | undefined): Grant | Promise<Grant> {
    const options = {
      cost: this.#cost,
      priority: this.#priority,
      signal,
      deadlineSeconds: this.#deadline.secondsLeft,
    };
    const { nodes } = this.#upstream;
    const choice = nodes === undefined ? options : { ...options, exclude: this.#triedNodes };
    return this.#upstream.acquire(choice, this.#limited);
  }

  /** Returns undefined if the deadline or the queue allows no further attempt: then `outcome` is final. */
  async #acquireAgain(outcome: Outcome, attempt: number): Promise<Grant | undefined> {
    try {
      if (outcome.needsPause && !this.#hasOtherNode && !(await this.#pause(attempt))) {
        return undefined;
      }
      return await this.#acquire(this.#request.signal);
    } catch (error) {
      const { code } = Object(error) as { code?: unknown };
      if (code === 'ERR_LIMITER_DEADLINE' || code === 'ERR_LIMITER_QUEUE') return undefined;
      discard(outcome);
      throw error;
    }
  }

  get #hasOtherNode(): boolean {
    const { nodes } = this.#upstream;
    return nodes !== undefined && new Set(this.#triedNodes).size < nodes.count();
  }

  /** Waits before an attempt. Returns false, without waiting, if the deadline would pass. */
  async #pause(attempt: number): Promise<boolean> {
    const { signal } = this.#request;
    const mostSeconds = FIRST_PAUSE_SECONDS * 2 ** (attempt - 2);
    const seconds = mostSeconds * (0.5 + 0.5 * Math.random());
    if (seconds >= this.#deadline.secondsLeft) return false;
    signal?.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const timer = startTimer(seconds, () => {
        removeAbortCallback();
        resolve();
      });
      const removeAbortCallback = onAbort(signal, () => {
        clearTimeout(timer);
        reject(signal?.reason);
      });
    });
    return true;
  }

  async #attempt({ node = '', lease }: Grant, isLast: boolean): Promise<Outcome> {
    this.#triedNodes.push(node);
    const { signal } = this.#request;
    const { send, seconds } = this.#prepare(node, lease, isLast);
    const hadTime = this.#deadline.isHalfLeft;
    let response: Response;
    try {
      // A request that is not answered in time counts as one without a response, and may be repeated.
      response = await this.#deadline.guard(signal, within(seconds, send));
    } catch (error) {
      return this.#onNoResponse(error, lease, hadTime);
    }
    const reporting = this.#report(response, lease);
    const { refused } = reporting instanceof Promise ? await reporting : reporting;
    if (signal?.aborted) {
      // Not every fetch ends a body when its signal aborts.
      discardBody(response.body);
      throw signal.reason;
    }
    const isFailed = !refused && this.#settings.retryStatuses.has(response.status);
    return { response, canRetry: refused || isFailed, needsPause: isFailed };
  }

  /**
   * Tells the limiter what the response says, and ends the lease. If a function of the user throws, no one reads the
   * response. Returns no promise unless that function or the body of a refusal has to be waited for.
   */
  #report(response: Response, lease: Lease): ReadResponse | Promise<ReadResponse> {
    try {
      const reading = readFetchResponse(this.#settings.reading, response);
      if (reading instanceof Promise || reading.refused) {
        return this.#reportLater(reading, response, lease);
      }
      this.#update(reading, [], response, lease);
      lease.release();
      return reading;
    } catch (error) {
      throw this.#unread(error, response, lease);
    }
  }

  async #reportLater(
    reading: ReadResponse | Promise<ReadResponse>,
    response: Response,
    lease: Lease,
  ): Promise<ReadResponse> {
    try {
      const read = await reading;
      const violated = read.refused
        ? await readViolatedPolicies(response, this.#deadline.secondsLeft, this.#request.signal)
        : [];
      this.#update(read, violated, response, lease);
      lease.release();
      return read;
    } catch (error) {
      throw this.#unread(error, response, lease);
    }
  }

  #update(
    { info, ageSeconds, refused, within: isWithin }: ReadResponse,
    violated: readonly string[],
    { status }: Response,
    lease: Lease,
  ): void {
    const context = { lease, ageSeconds, refused, violated, within: isWithin };
    this.#upstream.update(info, status, context);
  }

  #unread(error: unknown, response: Response, lease: Lease): unknown {
    discardBody(response.body);
    lease.release();
    return error;
  }

  /**
   * Returns the function that sends the request, and the time limit of the attempt. If that fails, nothing was sent and
   * the quota is refunded.
   */
  #prepare(node: string, lease: Lease, isLast: boolean): { send: Send; seconds: number } {
    try {
      this.#request.signal?.throwIfAborted();
      this.#deadline.throwIfPassed();
      const { nodes } = this.#upstream;
      const target = nodes?.target(node);
      const send = this.#request.prepare(this.#fetch, target, isLast);
      const { attemptSeconds, shortensProbes } = this.#settings;
      const isShort = nodes !== undefined && shortensProbes && !isLast;
      const seconds = isShort
        ? Math.min(attemptSeconds, nodes.probeSeconds(lease))
        : attemptSeconds;
      return { send, seconds: target?.timeoutSeconds ?? seconds };
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
    return { error, canRetry: true, needsPause: true };
  }
}

/** Frees the connection of a response that no one will read. */
function discard(outcome: Outcome): void {
  if ('response' in outcome) discardBody(outcome.response.body);
}

function within(seconds: number, send: Send): Send {
  if (seconds === Infinity) return send;
  const deadline = new Deadline(seconds);
  return (signal) => deadline.guard(signal, send);
}
