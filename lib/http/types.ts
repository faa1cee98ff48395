// The public types of relay-limiter/http and relay-limiter/fastify: options, refusals and verdicts.

import type { AddressKeyOptions } from '../address/address-key.js';
import type { ClientAddressOptions } from '../address/client-address.js';
import type { EngineName, RateLimitAction } from '../common/types.js';
import type { WarningOptions } from '../guard/misuse.js';
import type { Draft } from '../headers/format.js';
import type { AnyLimiter } from '../limiters/verdict.js';

/** A function of a request that returns a value, or a promise of one. */
export type Asked<Request, Response, Answer> = (
  request: Request,
  response: Response,
) => Answer | PromiseLike<Answer>;

/** Continues with the request, or with an error. */
export type Next = (error?: Error) => void;

/** The refusal of a request that exceeds its limit. */
export interface Refusal {
  /** The name of the policy, as in the response fields. */
  readonly policy: string;
  readonly key: string;
  /** `disconnect`: the limiter disconnects or bans the peer; its connection is closed after the response. */
  readonly action: Exclude<RateLimitAction, 'allow'>;
  /** The status code of the response. */
  readonly statusCode: number;
  /** Tokens of a full bucket. */
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
  readonly key: string;
  readonly policy: string;
  readonly action: RateLimitAction;
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
  /** Your own limiter, of any of the three classes, instead of `limit`. */
  limiter?: AnyLimiter | undefined;
  /** The name of the policy in the response fields, printable ASCII. Default: its figures, such as `100-in-60s`. */
  name?: string | undefined;
  /** The key that is limited. Default: the address or network of the client. */
  key?: Asked<Request, Response, string> | undefined;
  /**
   * Tokens that a request costs, finite and at least 0. Default 1. An OrderbookRateLimiter does not count a request of
   * cost 0.
   */
  cost?: number | Asked<Request, Response, number> | undefined;
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
   * `action` is `disconnect`. Default 429.
   */
  statusCode?: number | ((refusal: Unanswered) => number) | undefined;
  /** The body of a refusal. Default: problem details (RFC 9457), or a sentence for clients that accept no JSON. */
  message?: Message<Request, Response> | undefined;
  /**
   * Called with each verdict, before the request continues or is refused. An exception of it becomes an uncaught
   * exception and does not change the outcome.
   */
  onVerdict?: ((verdict: RequestVerdict<Request>) => void) | undefined;
  /** Passed to the limiter that `limit` creates: see `RateLimiter`. */
  engine?: 'auto' | EngineName | undefined;
  /** Passed to the limiter that `limit` creates: see `RateLimiter`. */
  clock?: (() => number) | undefined;
  /** Passed to the limiter that `limit` creates: see `RateLimiter`. Default 1,000,000. */
  maxPeers?: number | undefined;
  /** Passed to the limiter that `limit` creates: the number of refusals after which a connection is closed. */
  disconnectThreshold?: number | null | undefined;
}
