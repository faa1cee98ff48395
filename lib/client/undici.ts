// limitInterceptor is an interceptor for undici 6 and later: requests wait for quota before they are
// dispatched, and the limits that responses report are obeyed. It does not import undici; the few types of
// undici that it needs are declared here.

import { invalidValue } from '../common/errors.js';
import { isInstance } from '../common/kinds.js';
import { readOptions } from '../common/options.js';
import type { RateLimitInfo } from '../headers/types.js';
import { REQUEST_OPTIONS, type RequestOptions, readRequestOptions } from './options.js';
import { PolicyLimiter } from './policy-limiter.js';
import { PolicyLimiterGroup } from './policy-limiter-group.js';
import {
  RESPONSE_OPTIONS,
  type ResponseHead,
  type ResponseOptions,
  readHead,
  readResponseOptions,
} from './response-options.js';
import { dispatchLimited, type Handler, type ReadHead } from './undici-handler.js';

/** The options of `limitInterceptor`. `deadlineSeconds` counts from the dispatch, and limits only the waiting. */
export interface InterceptorOptions extends RequestOptions, ResponseOptions {}

/**
 * Returns the limiter for an origin such as `https://example.org`; undefined means that its requests are not
 * limited.
 */
export type LimiterOf = (origin: string) => PolicyLimiter | PolicyLimiterGroup | undefined;

interface DispatchOptions {
  readonly origin?: string | URL;
  readonly path: string;
  readonly method: string;
  readonly body?: unknown;
}

type Dispatch = (options: DispatchOptions, handler: Handler) => boolean;

/**
 * Returns an interceptor for `compose` of an undici dispatcher, whose requests wait for quota of `limiter`.
 * A group takes the limiter of the request's `key`, its host by default; `limiter` may also be a function that returns
 * the limiter for an origin. A lease is released when the headers of
 * the response have arrived. Aborting a request ends its waiting. It retries nothing: compose undici's `retry`
 * after it. It does not read the bodies of responses, so problem bodies have no effect. If the body of a request is a
 * stream that fails while the request waits, the request fails with the stream's error.
 *
 * A request fails with the errors of `acquire`: `ERR_LIMITER_DEADLINE`, `ERR_LIMITER_QUEUE`,
 * `ERR_LIMITER_COST`. Its quota is refunded if it fails before it is written to a connection.
 *
 * @throws ERR_LIMITER_OPTION for invalid arguments
 *
 * @example
 * import { createServer } from 'node:http';
 * import type { AddressInfo } from 'node:net';
 * import { limitInterceptor, PolicyLimiter } from 'relay-limiter/client';
 * import { Agent, request } from 'undici';
 *
 * const server = createServer((_, response) => response.end('done'));
 * await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
 * const { port } = server.address() as AddressInfo;
 *
 * const limiter = new PolicyLimiter({ policies: [{ quota: 5, windowSeconds: 1 }] });
 * const dispatcher = new Agent().compose(limitInterceptor(limiter, { deadlineSeconds: 30 }));
 *
 * const { statusCode, body } = await request(`http://127.0.0.1:${port}/`, { dispatcher });
 * console.log(statusCode, await body.text());
 * await dispatcher.close();
 * server.close();
 */
export function limitInterceptor(
  limiter: PolicyLimiter | PolicyLimiterGroup | LimiterOf,
  options?: InterceptorOptions,
): <D extends (options: never, handler: never) => boolean>(dispatch: D) => D {
  const isLimiter = isInstance(limiter, PolicyLimiter) || isInstance(limiter, PolicyLimiterGroup);
  if (!isLimiter && typeof limiter !== 'function') {
    const accepted =
      'a PolicyLimiter, a PolicyLimiterGroup or a function that returns one for an origin';
    throw invalidValue('ERR_LIMITER_OPTION', 'limiter', limiter, accepted);
  }
  const names = [...REQUEST_OPTIONS, ...RESPONSE_OPTIONS];
  const given = readOptions('limitInterceptor', options, names);
  const settings = readRequestOptions(given);
  const reading = readResponseOptions<ResponseHead, RateLimitInfo, boolean | undefined, boolean>(
    given,
  );
  const limiterOf = typeof limiter === 'function' ? limiter : () => limiter;
  const intercept = (dispatch: Dispatch): Dispatch => {
    return (request, handler) => {
      const origin = String(request.origin ?? '').replace(/\/$/, '');
      const originLimiter = limiterOf(origin);
      if (originLimiter === undefined) return dispatch(request, handler);
      const body = request.body ?? undefined;
      const limited = {
        url: `${origin}${request.path}`,
        method: request.method.toUpperCase(),
        body,
      };
      const acquire = async (signal: AbortSignal) => {
        const options = {
          cost: settings.cost(limited),
          priority: settings.priority(limited),
          deadlineSeconds: settings.deadlineSeconds,
          signal,
        };
        return isInstance(originLimiter, PolicyLimiterGroup)
          ? originLimiter.acquire({ ...options, key: settings.key(limited) })
          : originLimiter.acquire(options);
      };
      const send = (limitedHandler: Handler) => dispatch(request, limitedHandler);
      const read: ReadHead = (status, headers) => readHead(reading, status, headers);
      void dispatchLimited({ limiter: originLimiter, read, body, acquire, send }, handler);
      return true;
    };
  };
  return intercept as unknown as ReturnType<typeof limitInterceptor>;
}
