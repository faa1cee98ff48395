// The decision about a request, for the middleware and the Fastify plugin alike: whether it is skipped,
// whose it is, what it costs, what its limiter says, and the fields that tell. Answers nothing itself.

import { type CheckResult, RateLimitAction } from '../types.js';
import { FieldWriter, type SetField, wholeSeconds } from './fields.js';
import { errorOf, isPromise, whenKnown } from './later.js';
import type { GateOptions } from './options.js';
import type { Policies } from './policies.js';
import { check, type Left, type Policy } from './policy.js';
import type { Refusal, RequestVerdict } from './types.js';

/** What the gate does with a response. */
export interface Responses<Response> {
  /** Whether it is too late for fields. */
  hasBegun(response: Response): boolean;
  readonly setField: SetField<Response>;
}

/** What becomes of a request. */
export interface Ways {
  /** It is skipped, or allowed. */
  goOn(): void;
  /** It is answered. A promise that rejects is a failure, as an exception is. */
  refuse(refusal: Refusal): unknown;
  fail(error: Error): void;
}

/** What a policy is called, and what writes its fields. */
interface Named<Response extends object> {
  readonly name: string;
  readonly fields: FieldWriter<Response>;
}

/** What was decided about a request. */
interface Decision {
  readonly action: CheckResult[0];
  readonly key: string;
  /** The policy's name. */
  readonly policy: string;
  readonly quota: number;
  readonly left: Left;
}

export class Gate<Request, Response extends object> {
  readonly #options: GateOptions<Request, Response>;
  readonly #responses: Responses<Response>;
  readonly #policies: Policies<Request, Response>;
  readonly #named = new Map<Policy, Named<Response>>();

  /** @throws `ERR_LIMITER_OPTION` for a policy that the headers cannot say. */
  constructor(
    options: GateOptions<Request, Response>,
    policies: Policies<Request, Response>,
    responses: Responses<Response>,
  ) {
    this.#options = options;
    this.#policies = policies;
    this.#responses = responses;
    if (policies.only !== undefined) this.#name(policies.only);
  }

  /**
   * Decides about a request, puts the fields on its response, and goes one of three ways: at once, unless a
   * function that is asked answers by a promise. It fails with what one of those threw, and with
   * `ERR_LIMITER_KEY`, `ERR_LIMITER_COST`, `ERR_LIMITER_OPTION` for what it answered: nobody has been charged
   * then.
   */
  pass(request: Request, response: Response, ways: Ways): void {
    const failed = (error: unknown) => ways.fail(errorOf(error));
    let decision: Decision | undefined | PromiseLike<Decision | undefined>;
    try {
      decision = this.#decide(request, response);
    } catch (error) {
      failed(error);
      return;
    }
    if (isPromise(decision)) decision.then((known) => this.#act(request, known, ways), failed);
    else this.#act(request, decision, ways);
  }

  /** What `goOn` throws is its caller's. */
  #act(request: Request, decision: Decision | undefined, ways: Ways): void {
    if (decision !== undefined) this.#tell(request, decision);
    if (decision === undefined || decision.action === RateLimitAction.ALLOW) {
      ways.goOn();
      return;
    }
    const failed = (error: unknown) => ways.fail(errorOf(error));
    try {
      const done = ways.refuse(this.#refusal(decision));
      if (isPromise(done)) done.then(undefined, failed);
    } catch (error) {
      failed(error);
    }
  }

  /** What is to be said to a request that is refused. */
  #refusal({ action, key, policy, quota, left }: Decision): Refusal {
    const { remaining, retrySeconds } = left;
    return {
      policy,
      key,
      action: action as Refusal['action'],
      statusCode: this.#options.statusCode,
      limit: quota,
      remaining,
      retryAfterSeconds: retrySeconds < Infinity ? wholeSeconds(retrySeconds) : null,
    };
  }

  /** Tells who wants to know what was done. */
  #tell(request: Request, { action, key, policy, left }: Decision): void {
    const { onVerdict } = this.#options;
    if (onVerdict === undefined) return;
    const verdict: RequestVerdict<Request> = {
      kind: 'request',
      key,
      policy,
      action,
      delaySeconds: left.retrySeconds,
      did: action === RateLimitAction.ALLOW ? 'passed' : 'refused',
      request,
    };
    try {
      onVerdict(verdict);
    } catch (error) {
      // It must not look like a failed request.
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  #decide(
    request: Request,
    response: Response,
  ): Decision | undefined | PromiseLike<Decision | undefined> {
    const { skip } = this.#options;
    if (skip === undefined) return this.#count(request, response);
    return whenKnown(skip(request, response), (skipped) =>
      skipped ? undefined : this.#count(request, response),
    );
  }

  #count(request: Request, response: Response): Decision | PromiseLike<Decision> {
    const { key: keyOf, cost: costOf } = this.#options;
    return whenKnown(keyOf(request, response), (key) =>
      whenKnown(costOf(request, response), (cost) =>
        whenKnown(this.#policies.policyFor(request, response), (policy) =>
          this.#charge(response, policy, key, cost),
        ),
      ),
    );
  }

  #charge(response: Response, policy: Policy, key: string, cost: number): Decision {
    const { name, fields } = this.#named.get(policy) ?? this.#name(policy);
    const verdict = check(policy, key, cost);
    const left = policy.left(key, cost, verdict);
    if (!this.#responses.hasBegun(response)) fields.write(response, left);
    return { action: verdict[0], key, policy: name, quota: policy.quota, left };
  }

  #name(policy: Policy): Named<Response> {
    const { headers, name = nameOf(policy) } = this.#options;
    const fields = new FieldWriter(name, policy, headers, this.#responses.setField);
    const named = { name, fields };
    this.#named.set(policy, named);
    return named;
  }
}

function nameOf({ quota, windowSeconds }: Policy): string {
  return windowSeconds === null ? `${quota}` : `${quota}-in-${windowSeconds}s`;
}
