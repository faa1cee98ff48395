// The client of a request of node:http, node:https or node:http2.

import type { IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';
import type { Socket } from 'node:net';
import { keyWithin, readSubnets } from '../address/address-key.js';
import { addressResolver } from '../address/client-address.js';
import { warnOfProxy } from '../guard/misuse.js';
import { type Connection, noAddressError, type ReadClient } from './client.js';

/**
 * Returns what knows the client of each request. Its `key` throws `ERR_LIMITER_KEY` for a request without an address: a
 * request on a Unix socket, without a socket, or with a closed connection. `raw` returns Node's request.
 */
export function nodeClient<Request>(
  raw: (request: Request) => IncomingMessage,
): ReadClient<Request, unknown> {
  return (given, warn) => {
    const { trustedProxies } = given;
    const resolve = addressResolver({ trustedProxies: trustedProxies as string | undefined });
    const subnets = readSubnets(given);
    const hasProxies =
      trustedProxies !== undefined && !(Array.isArray(trustedProxies) && !trustedProxies.length);
    const address = (request: Request) => {
      const message = raw(request);
      if (trustedProxies === undefined) warnOfProxy(message, warn);
      return resolve(message);
    };
    const key = (request: Request) => {
      const found = keyWithin(address(request), subnets);
      if (found === undefined) throw noAddressError();
      return found;
    };
    return {
      key: hasProxies ? key : oncePerSocket(raw, key),
      address,
      connection(request) {
        const message = raw(request);
        // A proxy's connection carries the requests of many clients.
        if (hasProxies && resolve(message) !== message.socket?.remoteAddress) return undefined;
        return connectionOf(message);
      },
      isSamePerConnection: !hasProxies,
    };
  };
}

/** HTTP/2 has a session instead of a socket: `request.socket` is an object of the stream there. */
function connectionOf(request: IncomingMessage): Connection | undefined {
  const { stream } = request as unknown as Partial<Http2ServerRequest>;
  return stream?.session ?? request.socket;
}

/** Caches the key of a socket: its address does not change, and reading the address takes longer than a check. */
function oncePerSocket<Request>(
  raw: (request: Request) => IncomingMessage,
  keyOf: (request: Request) => string,
) {
  const keys = new WeakMap<Socket, string>();
  return (request: Request): string => {
    const { socket } = raw(request);
    const known = keys.get(socket);
    if (known !== undefined) return known;
    // Throws for a request without a socket, so undefined never becomes a key of the WeakMap.
    const key = keyOf(request);
    keys.set(socket, key);
    return key;
  };
}
