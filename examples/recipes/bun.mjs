// Limits for Bun.serve: requests by relay-limiter/fetch, WebSockets by relay-limiter/websocket.

import { RuleLimiter } from 'relay-limiter';
import { rateLimit } from 'relay-limiter/fetch';
import { guardWebSockets } from 'relay-limiter/websocket';

/** Returns the options `fetch` and `websocket` of `Bun.serve`. Messages are sent back. */
export function bunServer() {
  const limit = rateLimit({ limit: 5, windowSeconds: 3600 });
  const guard = guardWebSockets({
    limiter: new RuleLimiter({
      scopes: { connection: {}, address: { kind: 'address' } },
      rules: {
        connects: { scope: 'address', action: 'connect', quota: 3, windowSeconds: 3600 },
        messages: { scope: 'connection', action: 'message', quota: 4, windowSeconds: 3600 },
      },
      bans: { connection: { violations: 3, withinSeconds: 3600, seconds: 3600 } },
    }),
  });
  return {
    fetch(request, server) {
      const info = { address: server.requestIP(request)?.address };
      if (request.headers.get('upgrade') !== 'websocket') {
        return limit(request, () => new Response('Hello'), info);
      }
      // Bun expects no response if the upgrade has succeeded.
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
