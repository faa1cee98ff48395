// Limits for socket.io: who may connect, and the packets of each connection, whose transport may change
// from polling to WebSocket meanwhile.

import type { IncomingMessage } from 'node:http';
import type { RateLimiter } from 'relay-limiter';
import { addressKey, addressResolver, connectionKey } from 'relay-limiter/address';
import type { Server, ServerOptions } from 'socket.io';

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

/** Drops packets beyond the limit, and tells their sender; disconnects who goes on. */
export function limitPackets(io: Server, limiter: RateLimiter): void {
  io.on('connection', (socket) => {
    const peer = limiter.open(connectionKey(socket));
    socket.use((_packet, next) => {
      const [action, delaySeconds] = peer.check();
      if (action === 'allow') return next();
      if (action === 'disconnect') return void socket.disconnect(true);
      socket.emit('rate-limited', { delaySeconds });
    });
    socket.on('disconnect', () => limiter.removePeer(peer.key));
  });
}

function keyOf(request: IncomingMessage): string {
  const address = addressOf(request);
  return address === undefined ? connectionKey(request.socket) : addressKey(address);
}
