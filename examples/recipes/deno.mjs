// Limits for Deno.serve: requests by relay-limiter/fetch, WebSockets by relay-limiter/websocket.

import { RuleLimiter } from 'relay-limiter';
import { rateLimit } from 'relay-limiter/fetch';
import { guardWebSockets } from 'relay-limiter/websocket';

/** Returns a handler for `Deno.serve`. Text messages are sent back. */
export function denoHandler() {
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
  return (request, { remoteAddr }) => {
    const info = { address: remoteAddr.hostname };
    if (request.headers.get('upgrade') !== 'websocket') {
      return limit(request, () => new Response('Hello'), info);
    }
    return guard.upgrade(request, info, (admission) => {
      const { socket, response } = Deno.upgradeWebSocket(request);
      // Before the listeners of the socket: they get only the messages that pass.
      admission.guard(socket);
      socket.addEventListener('message', ({ data }) => socket.send(data));
      return response;
    });
  };
}
