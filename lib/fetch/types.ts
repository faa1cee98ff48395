// The public types of relay-limiter/fetch. Request and Response are those of the web standard.

import type { ClientInfo } from '../address/web-request.js';
import type { Asked, LimitOptions, Refusal } from '../http/types.js';
import type { Keys } from '../rules/types.js';

/**
 * The options of `rateLimit`. The second argument of `limit`, `key`, `keys`, `action`, `plan`, `cost`, `skip`, `message` and
 * `handler` is the `info` of the call, or an empty object without one.
 */
export interface FetchRateLimitOptions<Info extends object = ClientInfo>
  extends Omit<LimitOptions<Request, Info>, 'refundWhen'> {
  /**
   * Returns true for requests that shall not count: called with the response of `next`, before its body is sent, and then
   * what the request has taken is given back. Not called for refused requests, nor if `next` throws or the client has left
   * (`request.signal`): such a request counts. An exception or rejection becomes a process warning. Needs `limit` or a
   * RuleLimiter, since the other limiters give nothing back.
   */
  refundWhen?: Asked<Request, Response, boolean> | undefined;
  /**
   * Returns the response to a refused request, instead of `statusCode` and `message`. The rate limit fields and Retry-After
   * are added to it. Its exception or rejection is that of the call.
   */
  handler?:
    | ((request: Request, info: Info, refusal: Refusal) => Response | PromiseLike<Response>)
    | undefined;
}

/** The function that `rateLimit` returns, with methods to reset a key and to stop background work. */
export interface FetchRateLimit<Info extends object = ClientInfo> {
  /**
   * Answers a request: calls `next` if it is allowed and adds the rate limit fields to its response, or returns a refusal.
   * A field that the response has already stays as it is. Rejects with what `next` or a function of the options throws; with
   * `ERR_LIMITER_KEY` without an address or a key; with `ERR_LIMITER_OPTION` for arguments of other types.
   * `info` is optional unless the functions of the options need more than an address.
   */
  (
    request: Request,
    next: () => Response | PromiseLike<Response>,
    ...info: ClientInfo extends Info ? [info?: Info | undefined] : [info: Info]
  ): Promise<Response>;
  /**
   * Removes a key: its next request finds a full bucket. With a RuleLimiter, keys by scope; their bans end too.
   * @throws `ERR_LIMITER_KEY`
   */
  resetKey(key: string | Keys): void;
  /** Stops the background cleanup of the limiters that `limit` created. Requests are limited as before. */
  close(): void;
}
