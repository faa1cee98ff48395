// An interceptor for undici, 6 and later: requests wait for quota before they are dispatched, and responses
// are obeyed. undici's types are not needed; what of them is used here is written down below.

import { refused } from '../common/errors.js';
import { isInstance } from '../common/kinds.js';
import { readOptions } from '../common/options.js';
import { PolicyLimiter } from './policy-limiter.js';
import { REQUEST_OPTIONS, type RequestOptions, readRequestOptions } from './request-options.js';
import { dispatchInTurn, type Handler } from './undici-handler.js';

export type InterceptorOptions = RequestOptions;

/** Which limiter is for an origin, such as `https://example.org`; undefined: none. */
export type LimiterOf = (origin: string) => PolicyLimiter | undefined;

interface DispatchOptions {
  readonly origin?: string | URL;
  readonly path: string;
  readonly method: string;
}

type Dispatch = (options: DispatchOptions, handler: Handler) => boolean;
/** That of any version of undici. */
type AnyDispatch = (options: never, handler: never) => boolean;

/**
 * An interceptor for `compose`: `new Agent().compose(limitInterceptor(limiter))`. Each request waits for
 * quota of `limiter`, or of the one that a function gives for its origin, and releases it when the
 * headers of the response have come. Aborting a request ends its waiting. Nothing is repeated: compose
 * undici's `retry` around it. Bodies are not read: of a problem body nothing is known.
 *
 * A request fails with the errors of `acquire`: `ERR_LIMITER_DEADLINE`, `ERR_LIMITER_QUEUE`,
 * `ERR_LIMITER_COST`. Its quota goes back where it failed before it was written to a connection.
 *
 * @throws `ERR_LIMITER_OPTION` for what is not accepted
 */
export function limitInterceptor(
  limiter: PolicyLimiter | LimiterOf,
  options?: InterceptorOptions,
): <D extends AnyDispatch>(dispatch: D) => D {
  if (!isInstance(limiter, PolicyLimiter) && typeof limiter !== 'function') {
    const accepted = 'a PolicyLimiter, or a function that gives one for an origin';
    throw refused('ERR_LIMITER_OPTION', 'limiter', limiter, accepted);
  }
  const given = readOptions('limitInterceptor', options, REQUEST_OPTIONS);
  const settings = readRequestOptions(given);
  const limiterOf = typeof limiter === 'function' ? limiter : () => limiter;
  const intercept = (dispatch: Dispatch): Dispatch => {
    return (request, handler) => {
      const origin = String(request.origin ?? '').replace(/\/$/, '');
      const own = limiterOf(origin);
      if (own === undefined) return dispatch(request, handler);
      const about = { url: `${origin}${request.path}`, method: request.method.toUpperCase() };
      const acquire = (signal: AbortSignal) =>
        own.acquire({
          cost: settings.cost(about),
          priority: settings.priority(about),
          deadlineSeconds: settings.deadlineSeconds,
          signal,
        });
      void dispatchInTurn(own, handler, acquire, (limited) => dispatch(request, limited));
      return true;
    };
  };
  return intercept as unknown as <D extends AnyDispatch>(dispatch: D) => D;
}
