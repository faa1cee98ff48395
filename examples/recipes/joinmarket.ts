// Limits for a JoinMarket directory: lines over TCP, mostly through Tor. They are those of JoinMarket-NG's directory server.

import type { Server } from 'node:net';
import { RateLimiter } from 'relay-limiter';
import { guardConnections, guardLineServer } from 'relay-limiter/net';

/** The sockets of the server emit the allowed lines: `socket.on('line', (line) => ...)`. */
export function limitDirectory(server: Server) {
  guardConnections(server, { connections: { maxPerServer: 10_000 }, firstByteSeconds: 30 });
  return guardLineServer(server, {
    // By connection, the default: nicks are free, and all peers behind Tor have one address.
    messages: { limiter: new RateLimiter({ rateLimit: 500, burstLimit: 1000 }) },
    maxLineBytes: 65_536,
    lineSeconds: 30,
  });
}
