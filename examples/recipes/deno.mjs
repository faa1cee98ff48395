// Limits for Deno.serve: requests by relay-limiter/fetch, WebSockets by relay-limiter/websocket.

/** Returns a handler for `Deno.serve`. `limit`: of `rateLimit`. `guard`: of `guardWebSockets`. */
export function denoHandler(limit, guard) {
  return (request, { remoteAddr }) => {
    const info = { address: remoteAddr.hostname };
    if (request.headers.get('upgrade') !== 'websocket') {
      return limit(request, () => new Response('Hello'), info);
    }
    return guard.upgrade(request, info, (admission) => {
      const { socket, response } = Deno.upgradeWebSocket(request);
      // Before other listeners, which then get only the messages that pass.
      admission.guard(socket);
      socket.addEventListener('message', ({ data }) => socket.send(data));
      return response;
    });
  };
}
