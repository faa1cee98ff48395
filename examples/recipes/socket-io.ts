// Limits for socket.io: who may connect, and the packets of each connection, whose transport may change
// from polling to WebSocket meanwhile, and whose sockets may be very many.

import type { IncomingMessage } from 'node:http';
import type { RateLimiter } from 'relay-limiter';
import { addressKey, addressResolver, connectionKey } from 'relay-limiter/address';
import type { Namespace, Server, ServerOptions } from 'socket.io';

const addressOf = addressResolver({ trustedProxies: 'loopback' });

/** For `new Server(http, { allowRequest: allowRequest(limiter) })`: asked for each handshake and each poll. */
export function allowRequest(limiter: RateLimiter): NonNullable<ServerOptions['allowRequest']> {
  return (request, answer) => {
    // A poll of a connection that is open has its id; the packets it brings are limited below.
    if (new URL(request.url ?? '', 'http://a').searchParams.has('sid')) return answer(null, true);
    const [action] = limiter.check(keyOf(request));
    answer(action === 'allow' ? null : 'rate limit exceeded', action === 'allow');
  };
}

/**
 * Drops packets beyond the limit, and tells their sender; disconnects who goes on. Counts by connection: a
 * client may leave a namespace and come back as a new socket, which costs it a packet.
 */
export function limitPackets(io: Server, limiter: RateLimiter): void {
  io.engine.on('connection', (conn) => {
    conn.once('close', () => limiter.removePeer(connectionKey(conn)));
  });
  const limit = (namespace: Namespace) => {
    namespace.use((socket, next) => {
      const peer = limiter.open(connectionKey(socket.conn));
      const [action] = peer.check();
      if (action === 'disconnect') return socket.conn.close();
      if (action !== 'allow') return next(new Error('rate limit exceeded'));
      socket.use((_packet, next) => {
        const [action, delaySeconds] = peer.check();
        if (action === 'allow') return next();
        if (action === 'disconnect') return void socket.disconnect(true);
        // Volatile: an answer to each must not fill the memory for who does not read.
        socket.volatile.emit('rate-limited', { delaySeconds });
      });
      next();
    });
  };
  limit(io.of('/'));
  io.on('new_namespace', limit);
}

function keyOf(request: IncomingMessage): string {
  const address = addressOf(request);
  return address === undefined ? connectionKey(request.socket) : addressKey(address);
}
