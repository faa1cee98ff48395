// The public types of relay-limiter/http and relay-limiter/fastify: options, refusals and verdicts.

import type { AddressKeyOptions } from '../address/address-key.js';
import type { ClientAddressOptions } from '../address/client-address.js';
import type { EngineName, RateLimitAction } from '../common/types.js';
import type { WarningOptions } from '../guard/misuse.js';
import type { Draft } from '../headers/format.js';
import type { AsyncLimiter } from '../limiters/async-limiter.js';
import type { AnyLimiter } from '../limiters/verdict.js';
import type { AsyncRuleLimiter } from '../rules/any-rules.js';
import type { RuleLimiter } from '../rules/rule-limiter.js';
import type { BanPolicy, Cost, Keys } from '../rules/types.js';

/** A function of a request that returns a value, or a promise of one. */
export type Asked<Request, Response, Answer> = (
  request: Request,
  response: Response,
) => Answer | PromiseLike<Answer>;

/** Continues with the request, or with an error. */
export type Next = (error?: Error) => void;

/**
 * Why a request is refused. `rate`: a limit is reached. `disconnect`: the limiter disconnects the peer, for a ban or too
 * many violations. `ban`, `denied`: a ban or a deny list of a RuleLimiter.
 */
export type RefusalReason = 'rate' | 'disconnect' | 'ban' | 'denied';

/** What is left of a limit. */
export interface RateLimitState {
  /** The name of the policy, as in the response fields; of a RuleLimiter that of the rule. */
  readonly policy: string;
  /** Tokens of a full bucket. */
  readonly limit: number;
  /** Whole tokens left, at least 0. */
  readonly remaining: number;
  /** Seconds until the bucket is full if nothing is taken, or until a ban ends. Fractions, or Infinity. */
  readonly resetSeconds: number;
}

/** The refusal of a request that exceeds its limit. */
export interface Refusal {
  /**
   * The name of the policy, as in the response fields; of a RuleLimiter that of the refusing rule, or of the scope if no
   * rule refuses: for a ban, a deny list, or a full scope.
   */
  readonly policy: string;
  /** The key; of a RuleLimiter that of the refusing scope, or the address if that scope is derived or single. */
  readonly key: string;
  /** `disconnect`: the limiter disconnects, bans or denies the peer; its connection is closed after the response. */
  readonly action: Exclude<RateLimitAction, 'allow'>;
  readonly reason: RefusalReason;
  /** The refusing rule of a RuleLimiter, with the longest wait; null for a ban, a deny list, or without a RuleLimiter. */
  readonly rule: string | null;
  /** The scope of that rule, ban or list; null without a RuleLimiter. */
  readonly scope: string | null;
  /** The status code of the response. */
  readonly statusCode: number;
  /** Tokens of a full bucket; 0 if no policy is known, as on a deny list. */
  readonly limit: number;
  /** Remaining whole tokens. Greater than 0 only if the request costs more than 1. */
  readonly remaining: number;
  /**
   * Seconds after which every limit that has checked this request would allow it, a whole number, rounded up. Null if
   * that is never.
   */
  readonly retryAfterSeconds: number | null;
}

/** A refusal without a status code: the argument of a `statusCode` function. */
export type Unanswered = Omit<Refusal, 'statusCode'>;

/** The decision about a request. */
export interface RequestVerdict<Request> {
  readonly kind: 'request';
  /** As in `Refusal`. */
  readonly key: string;
  /** As in `Refusal`; of an allowed request the policy with the least left, empty on an allow list. */
  readonly policy: string;
  readonly action: RateLimitAction;
  /** Undefined if the request is allowed. */
  readonly reason: RefusalReason | undefined;
  /** As in `Refusal`. */
  readonly rule: string | null;
  readonly scope: string | null;
  /** The rule of a RuleLimiter that allows the request but has less than its `warnBelow` left; else null. */
  readonly warning: string | null;
  /** Seconds until the key has enough tokens: 0 if the request is allowed, Infinity if it never has. */
  readonly delaySeconds: number;
  readonly did: 'passed' | 'refused';
  readonly request: Request;
}

/** The body of a refusal: text, an object that is sent as JSON, or a function that returns either. */
export type Message<Request, Response> =
  | string
  | object
  | ((
      request: Request,
      response: Response,
      refusal: Refusal,
    ) => string | object | PromiseLike<string | object>);

/**
 * The options that the middleware and the Fastify plugin share. All durations are in seconds. The options
 * `trustedProxies`, `ipv4Subnet` and `ipv6Subnet` belong to the default `key`.
 */
export interface LimitOptions<Request, Response>
  extends ClientAddressOptions,
    AddressKeyOptions,
    WarningOptions {
  /**
   * Requests per window: each key has a bucket of this many tokens, which refills evenly over `windowSeconds`. A
   * whole number of at least 1, or a function that returns one. Each number that the function returns has buckets of
   * its own; at most 100 different numbers. Required unless `limiter` is given.
   */
  limit?: number | Asked<Request, Response, number> | undefined;
  /** Seconds in which an empty bucket refills, greater than 0. Default 60. */
  windowSeconds?: number | undefined;
  /**
   * Your own limiter instead of `limit`: any of the three classes, a `SharedRateLimiter`, or a `RuleLimiter` with all limits
   * of the server, which is checked by the keys of its scopes: `address` (the client's address), `connection` (removed when
   * the connection closes; not named behind a trusted proxy, whose connections carry many clients) and those of `keys`.
   */
  limiter?: AnyLimiter | AsyncLimiter | RuleLimiter | AsyncRuleLimiter | undefined;
  /**
   * The name of the policy in the response fields, printable ASCII. Default: its figures, such as `100-in-60s`. Not with a
   * RuleLimiter, whose rules are the policies.
   */
  name?: string | undefined;
  /** The key that is limited. Default: the address or network of the client. Not with a RuleLimiter. */
  key?: Asked<Request, Response, string> | undefined;
  /**
   * With a RuleLimiter: keys of more scopes than `address` and `connection`, which it must not name. A key that is undefined
   * is not named.
   */
  keys?: Asked<Request, Response, Keys | undefined> | undefined;
  /**
   * With a RuleLimiter: the action of a request. Default `message`, as in the guards of WebSockets and TCP, so that rules
   * for messages limit requests too. Rules without an action limit every action.
   */
  action?: string | Asked<Request, Response, string | undefined> | undefined;
  /** With a RuleLimiter: the plan of the client. Default: the base rules. */
  plan?: string | Asked<Request, Response, string | undefined> | undefined;
  /**
   * Tokens that a request costs, finite and at least 0. Default 1. With a RuleLimiter also costs by unit. An
   * OrderbookRateLimiter does not count a request of cost 0.
   */
  cost?: Cost | Asked<Request, Response, Cost> | undefined;
  /**
   * Returns true for requests that shall not count: called when the response has been sent, and then what the request has
   * taken is given back. For example `(request, response) => response.statusCode < 400` counts failed requests only. Not
   * called for refused requests, nor if the client leaves before the response is sent: such a request counts. An exception
   * or rejection becomes a process warning. Needs `limit` or a RuleLimiter, since the other limiters give nothing back.
   */
  refundWhen?: Asked<Request, Response, boolean> | undefined;
  /**
   * With `limit`: bans a key after so many refusals. A ban is answered like a refusal, with the rest of the ban as
   * Retry-After, and the connection is closed. A RuleLimiter has `bans` of its own.
   */
  ban?: BanPolicy | undefined;
  /** Returns true for requests to skip: they are not counted and get no fields. Default: no request is skipped. */
  skip?: Asked<Request, Response, boolean> | undefined;
  /**
   * The rate limit fields to send: those of draft 11, 7 or 6 of the RateLimit headers, `legacy` (X-RateLimit-...), an
   * array of these, or false for none. Default 11. Retry-After is sent with every refusal, unless a retry can never
   * succeed.
   */
  headers?: Draft | readonly Draft[] | false | undefined;
  /**
   * The status code of a refusal: a whole number from 400 to 599, or a function that returns one, for example 403 if
   * `action` is `disconnect`. Default 429, and 403 on a deny list.
   */
  statusCode?: number | ((refusal: Unanswered) => number) | undefined;
  /** The body of a refusal. Default: problem details (RFC 9457), or a sentence for clients that accept no JSON. */
  message?: Message<Request, Response> | undefined;
  /**
   * Called with each verdict, before the request continues or is refused. An exception or rejection of it becomes a process
   * warning and does not change the outcome: a client that finds out how to cause it must not be able to end the process.
   */
  onVerdict?: ((verdict: RequestVerdict<Request>) => void) | undefined;
  /** Passed to the limiter that `limit` creates: see `RateLimiter`. */
  engine?: 'auto' | EngineName | undefined;
  /** Passed to the limiter that `limit` creates: see `RateLimiter`. */
  clock?: (() => number) | undefined;
  /** Passed to the limiter that `limit` creates: see `RateLimiter`. Default 1,000,000. */
  maxPeers?: number | undefined;
  /**
   * Passed to the limiter that `limit` creates: the number of refusals from which connections are closed. Not with `ban` or
   * `refundWhen`.
   */
  disconnectThreshold?: number | null | undefined;
  /**
   * A name: the limit holds for all processes of the machine that give this name with the same numbers and the same `maxPeers`.
   * Passed to the limiter that `limit` creates: see `RateLimiter`. Not with a function as `limit`, nor with `clock`. A route of
   * Fastify with a limit of its own needs a name of its own. Default: each process counts by itself.
   */
  shared?: string | undefined;
}
