// Limits for Bun.serve: requests by relay-limiter/fetch, WebSockets by relay-limiter/websocket.

/** Returns options of `Bun.serve`. `limit`: of `rateLimit`. `guard`: of `guardWebSockets`. */
export function bunOptions(limit, guard) {
  return {
    fetch(request, server) {
      const info = { address: server.requestIP(request)?.address };
      if (request.headers.get('upgrade') !== 'websocket') {
        return limit(request, () => new Response('Hello'), info);
      }
      // Bun wants no response if the upgrade has succeeded.
      return guard.upgrade(request, info, (admission) =>
        server.upgrade(request, { data: { admission } })
          ? undefined
          : new Response('Upgrade failed', { status: 400 }),
      );
    },
    websocket: guard.handlers({
      message(socket, data) {
        socket.send(data);
      },
    }),
  };
}
