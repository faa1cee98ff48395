// A limit for Koa, whose requests and responses are those of node:http.

/** Returns middleware. `limit`: of relay-limiter/http. */
export function limitKoa(limit) {
  return async (ctx, next) => {
    const isAllowed = await new Promise((resolve, reject) => {
      // A refusal has been sent.
      ctx.res.once('close', () => resolve(false));
      limit(ctx.req, ctx.res, (error) => (error === undefined ? resolve(true) : reject(error)));
    });
    if (isAllowed) await next();
    else ctx.respond = false;
  };
}
