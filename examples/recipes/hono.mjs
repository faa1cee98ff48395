// A limit for Hono, on every server that it runs on.

/**
 * Returns middleware. `limit`: of relay-limiter/fetch. `getConnInfo`: of '@hono/node-server/conninfo', 'hono/bun' or
 * 'hono/deno'.
 */
export function limitHono(limit, getConnInfo) {
  return async (c, next) => {
    const proceed = async () => {
      await next();
      return c.res;
    };
    const response = await limit(c.req.raw, proceed, getConnInfo(c).remote);
    // A refusal, or a copy of a response whose headers cannot be changed.
    if (!c.finalized || response !== c.res) c.res = response;
  };
}
