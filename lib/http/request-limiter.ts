// Limits requests for the middleware and the Fastify plugin. RequestLimiter decides whether to skip a request,
// determines its key, cost and policy, checks the limiter and writes the rate limit fields. It sends no response;
// its adapter does.

import { callSafely } from '../common/callbacks.js';
import { type CheckResult, RateLimitAction } from '../common/types.js';
import { warnOfKey } from '../guard/misuse.js';
import { FieldWriter, type SetField, wholeSeconds } from './fields.js';
import { isPromise, type MaybePromise, mapMaybePromise } from './maybe-promise.js';
import type { RequestLimiterOptions } from './options.js';
import type { PolicySet } from './policies.js';
import { check, type LimiterPolicy, type QuotaState } from './policy.js';
import { toError } from './to-error.js';
import type { Next, Refusal, RequestVerdict, Unanswered } from './types.js';

/** The operations that differ between the middleware and the Fastify plugin. */
export interface ResponseAdapter<Request, Response> {
  /** Whether the headers are sent, so that no field can be set. */
  hasStarted(response: Response): boolean;
  setField: SetField<Response>;
  /** Sends the response to a refused request. An exception or a rejected promise is passed to `fail`. */
  refuse(request: Request, response: Response, next: Next, refusal: Refusal): unknown;
  fail(request: Request, response: Response, next: Next, error: Error): void;
}

interface PolicyFields<Response extends object> {
  /** The name of the policy in the fields. */
  readonly name: string;
  readonly writer: FieldWriter<Response>;
}

interface Decision {
  readonly action: CheckResult[0];
  readonly key: string;
  /** The name of the policy. */
  readonly policy: string;
  readonly quota: number;
  readonly state: QuotaState;
}

/**
 * The number of keys from a user's `key` function that are examined for IPv6 addresses without a subnet. If such
 * keys occur, they occur among the first thousand.
 */
const EXAMINED_KEYS = 1000;

/** A property of a response: the longest wait, in seconds, of the limits that have checked its request. */
const RETRY_SECONDS = Symbol('relay-limiter retry seconds');

export class RequestLimiter<Request, Response extends object> {
  readonly #options: RequestLimiterOptions<Request, Response>;
  readonly #adapter: ResponseAdapter<Request, Response>;
  readonly #policies: PolicySet<Request, Response>;
  readonly #fields = new Map<LimiterPolicy, PolicyFields<Response>>();
  #keysToExamine: number;

  /** @throws `ERR_LIMITER_OPTION` for a policy that the fields cannot express. */
  constructor(
    options: RequestLimiterOptions<Request, Response>,
    policies: PolicySet<Request, Response>,
    adapter: ResponseAdapter<Request, Response>,
  ) {
    this.#options = options;
    this.#policies = policies;
    this.#adapter = adapter;
    this.#keysToExamine = options.isOwnKey ? EXAMINED_KEYS : 0;
    if (policies.only !== undefined) this.#addFields(policies.only);
  }

  /**
   * Decides about a request, sets the fields on its response, then calls `next`, or refuses or fails the request.
   * This is synchronous unless a function of the options returns a promise.
   *
   * The request fails with the exception of such a function, and with `ERR_LIMITER_KEY`, `ERR_LIMITER_COST` or
   * `ERR_LIMITER_OPTION` if its result is invalid. A failed request consumes no tokens. An exception of `next` is
   * passed to the caller.
   */
  handle(request: Request, response: Response, next: Next): void {
    let decision: MaybePromise<Decision | undefined>;
    try {
      decision = this.#decide(request, response);
    } catch (error) {
      this.#fail(request, response, next, error);
      return;
    }
    if (!isPromise(decision)) {
      this.#apply(request, response, next, decision);
      return;
    }
    decision.then(
      (resolved) => this.#apply(request, response, next, resolved),
      (error) => this.#fail(request, response, next, error),
    );
  }

  #apply(request: Request, response: Response, next: Next, decision: Decision | undefined): void {
    if (decision !== undefined) this.#reportVerdict(request, decision);
    if (decision === undefined || decision.action === RateLimitAction.ALLOW) next();
    else this.#refuse(request, response, next, decision);
  }

  #refuse(request: Request, response: Response, next: Next, decision: Decision): void {
    const fail = (error: unknown) => this.#fail(request, response, next, error);
    try {
      const done = this.#adapter.refuse(request, response, next, this.#refusal(response, decision));
      // Fastify's reply is thenable, and its then() calls both callbacks without a check, so none may be undefined.
      // Promise.resolve passes both.
      if (isPromise(done)) Promise.resolve(done).catch(fail);
    } catch (error) {
      fail(error);
    }
  }

  #fail(request: Request, response: Response, next: Next, thrown: unknown): void {
    this.#adapter.fail(request, response, next, toError(thrown));
  }

  /**
   * Returns the refusal. Its wait is long enough for every limit that has checked the request.
   * @throws what `statusCode` throws; `ERR_LIMITER_OPTION` if its result is invalid.
   */
  #refusal(response: Response, { action, key, policy, quota, state }: Decision): Refusal {
    const { remaining } = state;
    const retrySeconds = retrySecondsOf(response);
    const refusal: Unanswered = {
      policy,
      key,
      action: action as Refusal['action'],
      limit: quota,
      remaining,
      // A wait of 0 seconds would make clients retry immediately.
      retryAfterSeconds: retrySeconds < Infinity ? Math.max(1, wholeSeconds(retrySeconds)) : null,
    };
    return { ...refusal, statusCode: this.#options.statusCode(refusal) };
  }

  #reportVerdict(request: Request, { action, key, policy, state }: Decision): void {
    const { onVerdict } = this.#options;
    if (onVerdict === undefined) return;
    const isAllowed = action === RateLimitAction.ALLOW;
    const verdict: RequestVerdict<Request> = {
      kind: 'request',
      key,
      policy,
      action,
      delaySeconds: isAllowed ? 0 : state.retrySeconds,
      did: isAllowed ? 'passed' : 'refused',
      request,
    };
    // An exception of the listener must not fail the request.
    callSafely(() => onVerdict(verdict));
  }

  /** Undefined if the request is skipped. */
  #decide(request: Request, response: Response): MaybePromise<Decision | undefined> {
    const { skip } = this.#options;
    if (skip === undefined) return this.#check(request, response);
    return mapMaybePromise(skip(request, response), (isSkipped) =>
      isSkipped ? undefined : this.#check(request, response),
    );
  }

  #check(request: Request, response: Response): MaybePromise<Decision> {
    const { key, cost } = this.#options;
    return mapMaybePromise(key(request, response), (key) => {
      this.#examineKey(key);
      return mapMaybePromise(cost(request, response), (cost) =>
        mapMaybePromise(this.#policies.policyFor(request, response), (policy) =>
          this.#charge(response, policy, key, cost),
        ),
      );
    });
  }

  #examineKey(key: string): void {
    if (this.#keysToExamine === 0) return;
    this.#keysToExamine -= 1;
    warnOfKey(key, this.#options.warn);
  }

  #charge(response: Response, policy: LimiterPolicy, key: string, cost: number): Decision {
    const { name, writer } = this.#fields.get(policy) ?? this.#addFields(policy);
    const verdict = check(policy, key, cost);
    const state = policy.stateOf(key, cost, verdict);
    if (state.retrySeconds > 0) recordRetry(response, state.retrySeconds);
    if (!this.#adapter.hasStarted(response)) {
      const isFirst = writer.write(response, state);
      if (!isFirst) this.#options.warn('WARN_LIMITER_COUNTED_TWICE');
    }
    return { action: verdict[0], key, policy: name, quota: policy.quota, state };
  }

  #addFields(policy: LimiterPolicy): PolicyFields<Response> {
    const { headers, name = defaultName(policy) } = this.#options;
    const writer = new FieldWriter(name, policy, headers, this.#adapter.setField);
    const fields = { name, writer };
    this.#fields.set(policy, fields);
    return fields;
  }
}

function retrySecondsOf(response: object): number {
  return (response as { [RETRY_SECONDS]?: number })[RETRY_SECONDS] ?? 0;
}

/** Keeps the longest wait of all limits. */
function recordRetry(response: object, seconds: number): void {
  const longest = Math.max(retrySecondsOf(response), seconds);
  (response as { [RETRY_SECONDS]?: number })[RETRY_SECONDS] = longest;
}

function defaultName({ quota, windowSeconds }: LimiterPolicy): string {
  return windowSeconds === null ? `${quota}` : `${quota}-in-${windowSeconds}s`;
}
