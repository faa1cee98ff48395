// A limit for h3, on which Nitro and Nuxt are built.

import { getRequestIP, toResponse } from 'h3';

/** Returns middleware for `app.use`. `limit`: of relay-limiter/fetch. */
export function limitH3(limit) {
  return (event, next) =>
    limit(event.req, async () => toResponse(await next(), event), { address: getRequestIP(event) });
}
