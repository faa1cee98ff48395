// A limit for route handlers of Next. They get no address, so it is that in X-Forwarded-For: the proxy in front of Next must
// set or extend this field, otherwise each client chooses its address.

import { rateLimit } from 'relay-limiter/fetch';

/** One proxy is trusted. Behind two, such as a CDN and a load balancer: `hop < 2`. */
const limit = rateLimit({
  limit: 10,
  windowSeconds: 60,
  trustedProxies: (_, hop) => hop === 0,
});

/** Wraps a route handler: `export const GET = limited(async (request) => Response.json(...))`. */
export function limited(handler) {
  return (request, context) => limit(request, () => handler(request, context));
}
