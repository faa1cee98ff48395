// rateLimitOf: what is left of the limits of a request.

import { lastCheck, listChecks } from './checks.js';
import type { RateLimitState } from './types.js';

/**
 * Returns what is left of the limits that have checked a request: the state of the policy with the fewest tokens left,
 * and among equals of the one that is full last. Undefined if no limit has checked the request, if it was skipped or is
 * on an allow or deny list, or if the limits do not know their state. For allowed and for refused requests, and free of
 * cost until it is called. The state is that after the check; if the limit sends no fields (`headers: false`), that at the
 * first call.
 *
 * `request` is the object that the limit got: Node's or Express' request, or Fastify's.
 * @example
 * import { once } from 'node:events';
 * import { createServer } from 'node:http';
 * import type { AddressInfo } from 'node:net';
 * import { rateLimit, rateLimitOf } from 'relay-limiter/http';
 *
 * const limit = rateLimit({ limit: 10, windowSeconds: 60 });
 * const server = createServer((request, response) => {
 *   limit(request, response, () => response.end(`${rateLimitOf(request)?.remaining} left`));
 * });
 * server.listen(0, '127.0.0.1');
 * await once(server, 'listening');
 *
 * const { port } = server.address() as AddressInfo;
 * const response = await fetch(`http://127.0.0.1:${port}`);
 * console.log(await response.text()); // 9 left
 * server.close();
 * server.closeAllConnections();
 * limit.close();
 */
export function rateLimitOf(request: object): RateLimitState | undefined {
  let tightest: RateLimitState | undefined;
  for (const check of listChecks(lastCheck(request))) {
    const limited = check.limitFor(11);
    if (limited === undefined) continue;
    const { policy, state } = limited;
    const { remaining, fullSeconds } = state;
    const found = {
      policy: policy.name,
      limit: policy.quota,
      remaining,
      resetSeconds: fullSeconds,
    };
    if (tightest === undefined || isTighter(found, tightest)) tightest = found;
  }
  return tightest;
}

function isTighter(a: RateLimitState, b: RateLimitState): boolean {
  if (a.remaining !== b.remaining) return a.remaining < b.remaining;
  return a.resetSeconds > b.resetSeconds;
}
