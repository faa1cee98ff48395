// Limits requests for the adapters: the middleware and the Fastify plugin. RequestLimiter decides whether to skip a
// request, checks its limit, writes the rate limit fields and gives back what shall not count. It sends no response, and
// knows neither node:http nor Fastify; its adapter does.

import { tryCall } from '../common/callbacks.js';
import { isPromise, type MaybePromise, mapMaybePromise } from '../common/maybe-promise.js';
import { RateLimitAction } from '../common/types.js';
import { warnOfError } from '../common/warnings.js';
import { addCheck, isCountedTwice, longestRetrySeconds, type RequestCheck } from './checks.js';
import { FieldWriter, type SetField, wholeSeconds } from './fields.js';
import { KeyLimit } from './key-limit.js';
import type { RequestLimiterOptions } from './options.js';
import type { PolicySet } from './policies.js';
import { RuleLimit } from './rule-limit.js';
import { toError } from './to-error.js';
import type { Next, Refusal, RequestVerdict, Unanswered } from './types.js';

/** The operations that differ between the adapters. */
export interface ResponseAdapter<Request, Response> {
  /** Whether the headers are sent, so that no field can be set. */
  hasStarted(response: Response): boolean;
  setField: SetField<Response>;
  /** Sends the response to a refused request. An exception or a rejected promise is passed to `fail`. */
  refuse(request: Request, response: Response, next: Next, refusal: Refusal): unknown;
  fail(request: Request, response: Response, next: Next, error: Error): void;
  /** Calls `then` when the response has been sent completely; never if the client leaves before. */
  onSent(response: Response, then: () => void): void;
}

/** Checks requests by one key or by many. */
interface RequestLimit<Request, Response> {
  check(request: Request, response: Response): MaybePromise<RequestCheck>;
}

export class RequestLimiter<Request extends object, Response> {
  readonly #options: RequestLimiterOptions<Request, Response>;
  readonly #adapter: ResponseAdapter<Request, Response>;
  readonly #limit: RequestLimit<Request, Response>;
  readonly #writer: FieldWriter<Response>;

  /** @throws `ERR_LIMITER_OPTION` for a policy that the fields cannot express. */
  constructor(
    options: RequestLimiterOptions<Request, Response>,
    policies: PolicySet<Request, Response>,
    adapter: ResponseAdapter<Request, Response>,
  ) {
    this.#options = options;
    this.#adapter = adapter;
    this.#writer = new FieldWriter(options.headers, adapter.setField);
    this.#limit =
      policies.rules === undefined
        ? new KeyLimit(options, policies, this.#writer)
        : new RuleLimit(options, policies.rules, this.#writer);
  }

  /**
   * Decides about a request, sets the fields on its response, then calls `next`, or refuses or fails the request.
   * This is synchronous unless a function of the options or the limiter returns a promise.
   *
   * The request fails with the exception of such a function, and with `ERR_LIMITER_KEY`, `ERR_LIMITER_COST` or
   * `ERR_LIMITER_OPTION` if its result is invalid. A failed request consumes no tokens. An exception of `next` is
   * passed to the caller.
   */
  handle(request: Request, response: Response, next: Next): void {
    let check: RequestCheck | undefined;
    try {
      const decided = this.#decide(request, response);
      if (isPromise(decided)) {
        this.#applyLater(request, response, next, decided);
        return;
      }
      this.#state(request, response, decided);
      check = decided;
    } catch (error) {
      this.#fail(request, response, next, error);
      return;
    }
    this.#apply(request, response, next, check);
  }

  #applyLater(
    request: Request,
    response: Response,
    next: Next,
    decided: PromiseLike<RequestCheck | undefined>,
  ): void {
    const stated = decided.then((check) => {
      this.#state(request, response, check);
      return check;
    });
    stated.then(
      (check) => this.#apply(request, response, next, check),
      (error) => this.#fail(request, response, next, error),
    );
  }

  /** Undefined if the request is skipped. */
  #decide(request: Request, response: Response): MaybePromise<RequestCheck | undefined> {
    const { skip } = this.#options;
    if (skip === undefined) return this.#limit.check(request, response);
    return mapMaybePromise(skip(request, response), (isSkipped) =>
      isSkipped ? undefined : this.#limit.check(request, response),
    );
  }

  /** States a check in the fields of the response. */
  #state(request: Request, response: Response, check: RequestCheck | undefined): void {
    if (check === undefined) return;
    addCheck(request, check);
    if (this.#adapter.hasStarted(response)) return;
    this.#writer.write(response, check);
    if (isCountedTwice(check)) this.#options.warn('WARN_LIMITER_COUNTED_TWICE');
  }

  #apply(request: Request, response: Response, next: Next, check: RequestCheck | undefined): void {
    if (check === undefined) {
      next();
      return;
    }
    this.#reportVerdict(request, check);
    if (check.action !== RateLimitAction.ALLOW) {
      this.#refuse(request, response, next, check);
      return;
    }
    if (this.#options.refundWhen !== undefined) this.#refundLater(request, response, check);
    next();
  }

  #refundLater(request: Request, response: Response, check: RequestCheck): void {
    const refund = (isRefunded: unknown) => {
      if (isRefunded === true) check.refund();
    };
    this.#adapter.onSent(response, () =>
      tryCall(
        () => mapMaybePromise(this.#options.refundWhen?.(request, response), refund),
        warnOfError,
      ),
    );
  }

  #refuse(request: Request, response: Response, next: Next, check: RequestCheck): void {
    const fail = (error: unknown) => this.#fail(request, response, next, error);
    try {
      const done = this.#adapter.refuse(request, response, next, this.#refusal(check));
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
  #refusal(check: RequestCheck): Refusal {
    const { action, reason, key, policyName, rule, scope } = check;
    const limited = check.limitFor(11);
    const retrySeconds = longestRetrySeconds(check);
    const refusal: Unanswered = {
      policy: policyName,
      key,
      action: action as Refusal['action'],
      reason: reason as Refusal['reason'],
      rule,
      scope,
      limit: limited?.policy.quota ?? 0,
      remaining: limited?.state.remaining ?? 0,
      // A wait of 0 seconds would make clients retry immediately.
      retryAfterSeconds: retrySeconds < Infinity ? Math.max(1, wholeSeconds(retrySeconds)) : null,
    };
    return { ...refusal, statusCode: this.#options.statusCode(refusal) };
  }

  #reportVerdict(request: Request, check: RequestCheck): void {
    const { onVerdict } = this.#options;
    if (onVerdict === undefined) return;
    const { key, policyName, action, reason, rule, scope, warning, retrySeconds } = check;
    const isAllowed = action === RateLimitAction.ALLOW;
    const verdict: RequestVerdict<Request> = {
      kind: 'request',
      key,
      policy: policyName,
      action,
      reason,
      rule,
      scope,
      warning,
      delaySeconds: isAllowed ? 0 : retrySeconds,
      did: isAllowed ? 'passed' : 'refused',
      request,
    };
    // An exception of the listener must not fail the request.
    tryCall(() => onVerdict(verdict), warnOfError);
  }
}
