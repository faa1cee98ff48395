// A limit for Elysia on Bun.

/** For `app.wrap`: limits the requests to an app. `limit`: of relay-limiter/fetch. */
export function limitElysia(app, limit) {
  return (handle) => (request) =>
    limit(request, () => handle(request), { address: app.server?.requestIP(request)?.address });
}
