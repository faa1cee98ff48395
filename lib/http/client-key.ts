// The default key of a request: the address of its client.

import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { keyWithin, readSubnets } from '../address/address-key.js';
import { addressResolver } from '../address/client-address.js';
import { limiterError } from '../common/errors.js';
import { type Warn, warnOfProxy } from '../guard/misuse.js';

type Given = Readonly<Record<string, unknown>>;

/** The options of the default key. */
export const CLIENT_KEY_OPTIONS = ['trustedProxies', 'ipv4Subnet', 'ipv6Subnet'];

/**
 * Returns a function that returns the key of a request. That function throws `ERR_LIMITER_KEY` for a request without
 * an address, since all such requests would share one bucket: a request on a Unix socket, without a socket, or with
 * a closed connection.
 * @throws `ERR_LIMITER_OPTION`
 */
export function clientKey(given: Given, warn: Warn): (request: IncomingMessage) => string {
  const { trustedProxies } = given;
  const addressOf = addressResolver({ trustedProxies: trustedProxies as string | undefined });
  const subnets = readSubnets(given);
  const keyOf = (request: IncomingMessage) =>
    keyWithin(addressOf(request), subnets) ?? throwNoAddress();
  if (Array.isArray(trustedProxies) && trustedProxies.length === 0) return oncePerSocket(keyOf);
  if (trustedProxies !== undefined) return keyOf;
  return oncePerSocket((request) => {
    warnOfProxy(request, warn);
    return keyOf(request);
  });
}

/** Caches the key of a socket: its address does not change, and reading the address takes longer than a check. */
function oncePerSocket(keyOf: (request: IncomingMessage) => string) {
  const keys = new WeakMap<Socket, string>();
  return (request: IncomingMessage): string => {
    const known = keys.get(request.socket);
    if (known !== undefined) return known;
    // Throws for a request without a socket, so undefined never becomes a key of the WeakMap.
    const key = keyOf(request);
    keys.set(request.socket, key);
    return key;
  };
}

function throwNoAddress(): never {
  const message =
    'a request must have a client address, got none (as on a Unix socket): set trustedProxies or key';
  throw limiterError(Error, 'ERR_LIMITER_KEY', message);
}
