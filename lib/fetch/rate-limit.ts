// Limits web-standard requests: (request, next, info) => response. For servers and frameworks whose handlers are functions
// from Request to Response, on any runtime. It imports nothing of Node.

import type { ClientInfo } from '../address/web-request.js';
import { invalidValue } from '../common/errors.js';
import { hasMethods } from '../common/kinds.js';
import { mapMaybePromise } from '../common/maybe-promise.js';
import { callback, readOptions } from '../common/options.js';
import { customAnswer, standardAnswer } from '../http/answer.js';
import { readSharedOptions, SHARED_OPTIONS } from '../http/options.js';
import { PolicySet } from '../http/policies.js';
import { RequestLimiter } from '../http/request-limiter.js';
import type { Message, Refusal } from '../http/types.js';
import type { Keys } from '../rules/types.js';
import { Exchange, isResponse } from './exchange.js';
import { fetchClient } from './fetch-client.js';
import type { FetchRateLimit, FetchRateLimitOptions } from './types.js';

type Of<Info extends object> = Exchange<Info>;
type UserFunction = (...of: unknown[]) => unknown;

/** The options that may be functions of a request. */
const OF_REQUEST = ['limit', 'key', 'keys', 'action', 'plan', 'cost', 'skip', 'message', 'handler'];

/**
 * Returns a function that limits the requests of each key by a token bucket, or by all rules of a RuleLimiter, and answers
 * refused requests with status 429. Create it once, not for each request: every call creates a limiter.
 *
 * A web-standard request has no address, so pass the one that the server knows, or give a `key`. No connection is closed,
 * since the standard has none.
 * @throws `ERR_LIMITER_OPTION` for an invalid option, or a policy that the response fields cannot express;
 * `ERR_LIMITER_ENGINE` if the requested engine is unavailable.
 * @example
 * import { rateLimit } from 'relay-limiter/fetch';
 *
 * const limit = rateLimit({ limit: 2, windowSeconds: 60 });
 * const handle = (request: Request, address: string) =>
 *   limit(request, () => new Response('Hello'), { address });
 *
 * for (let n = 0; n < 3; n += 1) {
 *   const response = await handle(new Request('http://localhost/'), '192.0.2.1');
 *   // Prints 200, 200 and 429.
 *   console.log(response.status, response.headers.get('RateLimit'));
 * }
 * limit.close();
 */
export function rateLimit<Info extends object = ClientInfo>(
  options: FetchRateLimitOptions<Info>,
): FetchRateLimit<Info> {
  const given = forExchanges(readOptions('rateLimit', options, [...SHARED_OPTIONS, 'handler']));
  const read = readSharedOptions<Request, Of<Info>>('rateLimit', given, ['handler'], fetchClient);
  const handler = callback<
    (request: Request, exchange: Of<Info>, refusal: Refusal) => Response | PromiseLike<Response>
  >(given, 'handler');
  const policies = new PolicySet(read);
  const limiter = new RequestLimiter<Request, Of<Info>>(read, policies, {
    hasStarted: () => false,
    setField: (exchange, name, value) => exchange.setField(name, value),
    refuse(request, exchange, _, refusal) {
      const { retryAfterSeconds } = refusal;
      if (retryAfterSeconds !== null) exchange.setField('retry-after', retryAfterSeconds);
      const response = handler ?? ((...of) => answer(read.message, ...of));
      return mapMaybePromise(response(request, exchange, refusal), (response) =>
        exchange.respond(exchange.withFields(requireResponse(response))),
      );
    },
    fail: (_request, _exchange, next, error) => next(error),
    onSent(exchange, then) {
      exchange.onResponse = then;
    },
  });

  const limit = (
    request: Request,
    next: () => Response | PromiseLike<Response>,
    info?: Info,
  ): Promise<Response> =>
    new Promise((resolve, reject) => {
      requireRequest(request, next);
      const exchange = new Exchange(info ?? ({} as Info), resolve);
      limiter.handle(request, exchange, (error) => {
        if (error === undefined) resolve(exchange.proceed(request, next));
        else reject(error);
      });
    });

  return Object.assign(limit, {
    resetKey: (key: string | Keys) => policies.resetKey(key),
    close: () => policies.close(),
  }) as FetchRateLimit<Info>;
}

/** Makes the user's functions take an exchange where they take `info`, or a response. */
function forExchanges(given: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const adapted = { ...given };
  for (const name of OF_REQUEST) {
    const call = given[name];
    if (typeof call !== 'function') continue;
    adapted[name] = (request: Request, { info }: Exchange<unknown>, ...more: unknown[]) =>
      (call as UserFunction)(request, info, ...more);
  }
  const { refundWhen } = given;
  if (typeof refundWhen === 'function') {
    adapted['refundWhen'] = (request: Request, { response }: Exchange<unknown>) =>
      (refundWhen as UserFunction)(request, response);
  }
  return adapted;
}

/** The response with the standard body, or with the user's message. */
function answer<Info extends object>(
  message: Message<Request, Of<Info>> | undefined,
  request: Request,
  exchange: Of<Info>,
  refusal: Refusal,
): Response | PromiseLike<Response> {
  const respond = ({ type, body }: { type: string; body: string }) =>
    new Response(body, { status: refusal.statusCode, headers: { 'content-type': type } });
  if (message === undefined) {
    return respond(standardAnswer(refusal, request.headers.get('accept') ?? undefined));
  }
  const body = typeof message === 'function' ? message(request, exchange, refusal) : message;
  return mapMaybePromise(body, (resolved) => respond(customAnswer(resolved))) as
    | Response
    | PromiseLike<Response>;
}

function requireRequest(request: unknown, next: unknown): void {
  if (!hasMethods((request as Request | undefined)?.headers, 'get')) {
    throw invalidValue('ERR_LIMITER_OPTION', 'the request', request, 'a Request');
  }
  if (typeof next !== 'function') {
    throw invalidValue('ERR_LIMITER_OPTION', 'next', next, 'a function');
  }
}

function requireResponse(value: unknown): Response {
  if (isResponse(value)) return value;
  throw invalidValue('ERR_LIMITER_OPTION', 'handler()', value, 'a Response');
}
