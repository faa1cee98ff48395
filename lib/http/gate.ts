// The decision about a request, for the middleware and the Fastify plugin alike: whether it is skipped,
// whose it is, what it costs, what its limiter says, and the fields that tell. Answers nothing itself.

import { safely } from '../common/callbacks.js';
import { type CheckResult, RateLimitAction } from '../common/types.js';
import { warnOfKey } from '../guard/misuse.js';
import { FieldWriter, type SetField, wholeSeconds } from './fields.js';
import { errorOf, isPromise, type Now } from './later.js';
import type { GateOptions } from './options.js';
import type { Policies } from './policies.js';
import { check, type Left, type Policy } from './policy.js';
import type { Refusal, RequestVerdict, Unanswered } from './types.js';

/** Goes on: with the request, or with an error. */
export type Next = (error?: Error) => void;

/** What differs between those that have a gate. */
export interface Room<Request, Response> {
  /** Whether it is too late for fields. */
  hasBegun(response: Response): boolean;
  setField: SetField<Response>;
  /** Answers it. A promise that rejects is a failure, as an exception is. */
  refuse(request: Request, response: Response, next: Next, refusal: Refusal): unknown;
  fail(request: Request, response: Response, next: Next, error: Error): void;
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

/** So many keys of a function of the user's are looked at: some of them will be IPv6 where any are. */
const LOOKED_AT = 1000;

/** Seconds after which the limits that a response was asked for before would allow its request once more. */
const WAIT = Symbol('wait of the limits so far');

export class Gate<Request, Response extends object> {
  readonly #options: GateOptions<Request, Response>;
  readonly #room: Room<Request, Response>;
  readonly #policies: Policies<Request, Response>;
  readonly #named = new Map<Policy, Named<Response>>();
  /** Keys that are still to be looked at. */
  #unchecked: number;

  /** @throws `ERR_LIMITER_OPTION` for a policy that the headers cannot say. */
  constructor(
    options: GateOptions<Request, Response>,
    policies: Policies<Request, Response>,
    room: Room<Request, Response>,
  ) {
    this.#options = options;
    this.#policies = policies;
    this.#room = room;
    this.#unchecked = options.isOwnKey ? LOOKED_AT : 0;
    if (policies.only !== undefined) this.#name(policies.only);
  }

  /**
   * Decides about a request, puts the fields on its response, and lets it go on, refuses it or fails: at once,
   * unless a function that is asked answers by a promise. It fails with what one of those threw, and with
   * `ERR_LIMITER_KEY`, `ERR_LIMITER_COST`, `ERR_LIMITER_OPTION` for what it answered: nobody has been charged
   * then. What `next` throws is its caller's.
   */
  pass(request: Request, response: Response, next: Next): void {
    let decision: Now<Decision | undefined>;
    try {
      decision = this.#decide(request, response);
    } catch (error) {
      this.#fail(request, response, next, error);
      return;
    }
    if (!isPromise(decision)) {
      this.#act(request, response, next, decision);
      return;
    }
    decision.then(
      (known) => this.#act(request, response, next, known),
      (error) => this.#fail(request, response, next, error),
    );
  }

  #act(request: Request, response: Response, next: Next, decision: Decision | undefined): void {
    if (decision !== undefined) this.#tell(request, decision);
    if (decision === undefined || decision.action === RateLimitAction.ALLOW) next();
    else this.#refuse(request, response, next, decision);
  }

  #refuse(request: Request, response: Response, next: Next, decision: Decision): void {
    const failed = (error: unknown) => this.#fail(request, response, next, error);
    try {
      const done = this.#room.refuse(request, response, next, this.#refusal(response, decision));
      // Fastify's reply is thenable, and calls what it is given without a look: undefined would be called too.
      if (isPromise(done)) Promise.resolve(done).catch(failed);
    } catch (error) {
      failed(error);
    }
  }

  #fail(request: Request, response: Response, next: Next, thrown: unknown): void {
    this.#room.fail(request, response, next, errorOf(thrown));
  }

  /**
   * What is to be said to a request that is refused: no wait that one of its limits would refuse again.
   * @throws what `statusCode` throws, and `ERR_LIMITER_OPTION` for what it answers.
   */
  #refusal(response: Response, { action, key, policy, quota, left }: Decision): Refusal {
    const { remaining } = left;
    const retrySeconds = waitOf(response);
    const refusal: Unanswered = {
      policy,
      key,
      action: action as Refusal['action'],
      limit: quota,
      remaining,
      // At once would be no wait.
      retryAfterSeconds: retrySeconds < Infinity ? Math.max(1, wholeSeconds(retrySeconds)) : null,
    };
    return { ...refusal, statusCode: this.#options.statusCode(refusal) };
  }

  /** Tells who wants to know what was done. */
  #tell(request: Request, { action, key, policy, left }: Decision): void {
    const { onVerdict } = this.#options;
    if (onVerdict === undefined) return;
    const isAllowed = action === RateLimitAction.ALLOW;
    const verdict: RequestVerdict<Request> = {
      kind: 'request',
      key,
      policy,
      action,
      delaySeconds: isAllowed ? 0 : left.retrySeconds,
      did: isAllowed ? 'passed' : 'refused',
      request,
    };
    // What it throws must not look like a failed request.
    safely(() => onVerdict(verdict));
  }

  #decide(request: Request, response: Response): Now<Decision | undefined> {
    const { skip } = this.#options;
    if (skip === undefined) return this.#find(request, response);
    const skipped = skip(request, response);
    if (!isPromise(skipped)) return skipped ? undefined : this.#find(request, response);
    return skipped.then((known) => (known ? undefined : this.#find(request, response)));
  }

  /** Whose it is. */
  #find(request: Request, response: Response): Now<Decision> {
    const key = this.#options.key(request, response);
    if (!isPromise(key)) return this.#price(request, response, key);
    return key.then((known) => this.#price(request, response, known));
  }

  /** What it costs. */
  #price(request: Request, response: Response, key: string): Now<Decision> {
    if (this.#unchecked > 0) {
      this.#unchecked -= 1;
      warnOfKey(key, this.#options.warn);
    }
    const cost = this.#options.cost(request, response);
    if (!isPromise(cost)) return this.#choose(request, response, key, cost);
    return cost.then((known) => this.#choose(request, response, key, known));
  }

  /** By which policy. */
  #choose(request: Request, response: Response, key: string, cost: number): Now<Decision> {
    const policy = this.#policies.policyFor(request, response);
    if (!isPromise(policy)) return this.#charge(response, policy, key, cost);
    return policy.then((known) => this.#charge(response, known, key, cost));
  }

  #charge(response: Response, policy: Policy, key: string, cost: number): Decision {
    const { name, fields } = this.#named.get(policy) ?? this.#name(policy);
    const verdict = check(policy, key, cost);
    const left = policy.left(key, cost, verdict);
    if (left.retrySeconds > 0) wait(response, left.retrySeconds);
    if (!this.#room.hasBegun(response)) {
      const isFirst = fields.write(response, left);
      if (!isFirst) this.#options.warn('WARN_LIMITER_COUNTED_TWICE');
    }
    return { action: verdict[0], key, policy: name, quota: policy.quota, left };
  }

  #name(policy: Policy): Named<Response> {
    const { headers, name = nameOf(policy) } = this.#options;
    const fields = new FieldWriter(name, policy, headers, this.#room.setField);
    const named = { name, fields };
    this.#named.set(policy, named);
    return named;
  }
}

function waitOf(response: object): number {
  return (response as { [WAIT]?: number })[WAIT] ?? 0;
}

/** The longest counts. */
function wait(response: object, seconds: number): void {
  (response as { [WAIT]?: number })[WAIT] = Math.max(waitOf(response), seconds);
}

function nameOf({ quota, windowSeconds }: Policy): string {
  return windowSeconds === null ? `${quota}` : `${quota}-in-${windowSeconds}s`;
}
