// What users of relay-limiter/http and /fastify name: options, refusals, verdicts. No behaviour.

import type { AddressKeyOptions } from '../address/address-key.js';
import type { ClientAddressOptions } from '../address/client-address.js';
import type { EngineName, RateLimitAction } from '../common/types.js';
import type { WarningOptions } from '../guard/misuse.js';
import type { Draft } from '../headers/format.js';
import type { AnyLimiter } from '../limiters/verdict.js';

/** What is asked about each request: answered at once, or by a promise. */
export type Asked<Request, Response, Answer> = (
  request: Request,
  response: Response,
) => Answer | PromiseLike<Answer>;

/** A request that is over the limit. */
export interface Refusal {
  /** The policy's name, as the headers have it. */
  readonly policy: string;
  readonly key: string;
  /** `disconnect`: the limiter gave the peer up, or banned it; its connection is closed. */
  readonly action: Exclude<RateLimitAction, 'allow'>;
  /** Of the answer. */
  readonly statusCode: number;
  /** Tokens of a full bucket. */
  readonly limit: number;
  /** Whole tokens that are left: some, where the cost is above 1. */
  readonly remaining: number;
  /**
   * Whole seconds, rounded up, after which it is worth trying, by all limits that were asked of this request;
   * null: it never is.
   */
  readonly retryAfterSeconds: number | null;
}

/** A refusal whose answer has no status yet. */
export type Unanswered = Omit<Refusal, 'statusCode'>;

/** What was decided about a request. */
export interface RequestVerdict<Request> {
  readonly kind: 'request';
  readonly key: string;
  readonly policy: string;
  readonly action: RateLimitAction;
  /** Seconds until the cost is there; 0 where it was, Infinity where it never will be. */
  readonly delaySeconds: number;
  readonly did: 'passed' | 'refused';
  readonly request: Request;
}

/** What a refusal says: text, anything that JSON can say, or a function that answers one of them. */
export type Message<Request, Response> =
  | string
  | object
  | ((
      request: Request,
      response: Response,
      refusal: Refusal,
    ) => string | object | PromiseLike<string | object>);

/**
 * The options that the middleware and the Fastify plugin share. All durations are in seconds. The options of
 * addresses are those of the default key.
 */
export interface LimitOptions<Request, Response>
  extends ClientAddressOptions,
    AddressKeyOptions,
    WarningOptions {
  /**
   * Requests in a window: a bucket of so many tokens for each key, refilled evenly over
   * `windowSeconds`. A whole number of at least 1, or a function that answers one: then each number
   * has its own buckets, and there may be 100 of them. Required unless `limiter` is given.
   */
  limit?: number | Asked<Request, Response, number> | undefined;
  /** Seconds in which an empty bucket gets full, greater than 0. Default 60. */
  windowSeconds?: number | undefined;
  /** A limiter of the caller's, of any of the three kinds, instead of `limit`. */
  limiter?: AnyLimiter | undefined;
  /** The policy's name in the headers: printable ASCII. Default: its figures, such as `100-in-60s`. */
  name?: string | undefined;
  /** Who is limited. Default: the client's address, as the options of addresses have it. */
  key?: Asked<Request, Response, string> | undefined;
  /** Tokens that a request costs, finite and at least 0. Default 1. To an OrderbookRateLimiter 0 is no request. */
  cost?: number | Asked<Request, Response, number> | undefined;
  /** Requests that are not limited, not counted, and told nothing. Default: none. */
  skip?: Asked<Request, Response, boolean> | undefined;
  /**
   * Which fields tell of the limit: those of draft 11, 7 or 6 of the RateLimit headers, `legacy`
   * (X-RateLimit-...), several of them, or none (false). Default 11. Retry-After comes with every refusal.
   */
  headers?: Draft | readonly Draft[] | false | undefined;
  /**
   * Of a refusal, a whole number from 400 to 599, or a function that answers one, such as 403 where `action` is
   * `disconnect`. Default 429.
   */
  statusCode?: number | ((refusal: Unanswered) => number) | undefined;
  /** What a refusal says. Default: problem details (RFC 9457), or a sentence for who wants no JSON. */
  message?: Message<Request, Response> | undefined;
  /**
   * Told of each verdict, just before it is acted upon. What it throws surfaces as an uncaught exception,
   * and changes nothing.
   */
  onVerdict?: ((verdict: RequestVerdict<Request>) => void) | undefined;
  /** Of the limiter that `limit` makes: see `RateLimiter`. */
  engine?: 'auto' | EngineName | undefined;
  /** Of the limiter that `limit` makes: see `RateLimiter`. */
  clock?: (() => number) | undefined;
  /** Of the limiter that `limit` makes: see `RateLimiter`. Default 1,000,000. */
  maxPeers?: number | undefined;
  /** Of the limiter that `limit` makes: refusals from which a client's connection is closed. */
  disconnectThreshold?: number | null | undefined;
}
