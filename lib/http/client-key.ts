// The key of a request of which nothing else is known: its client's address.

import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { keyWithin, readSubnets } from '../address/address-key.js';
import { addressResolver } from '../address/client-address.js';
import { limiterError } from '../common/errors.js';
import { type Warn, warnOfProxy } from '../guard/misuse.js';

type Given = Readonly<Record<string, unknown>>;

/** The options that the default key has. */
export const CLIENT_KEY_OPTIONS = ['trustedProxies', 'ipv4Subnet', 'ipv6Subnet'];

/**
 * The key of a request; it throws `ERR_LIMITER_KEY` for one without an address, which is nobody's place to
 * be limited in: one on a Unix socket, without a socket, or whose connection is gone.
 * @throws `ERR_LIMITER_OPTION`
 */
export function clientKey(given: Given, warn: Warn): (request: IncomingMessage) => string {
  const { trustedProxies } = given;
  const addressOf = addressResolver({ trustedProxies: trustedProxies as string | undefined });
  const subnets = readSubnets(given);
  const keyOf = (request: IncomingMessage) => keyWithin(addressOf(request), subnets) ?? noKey();
  if (Array.isArray(trustedProxies) && trustedProxies.length === 0) return oncePerSocket(keyOf);
  if (trustedProxies !== undefined) return keyOf;
  return oncePerSocket((request) => {
    warnOfProxy(request, warn);
    return keyOf(request);
  });
}

/** A socket's address does not change, and reading it takes longer than a check. */
function oncePerSocket(keyOf: (request: IncomingMessage) => string) {
  const keys = new WeakMap<Socket, string>();
  return (request: IncomingMessage): string => {
    const known = keys.get(request.socket);
    if (known !== undefined) return known;
    // It throws where there is no socket.
    const key = keyOf(request);
    keys.set(request.socket, key);
    return key;
  };
}

function noKey(): never {
  const message =
    'a request has no client address (a Unix socket has none): name trustedProxies, or give a key';
  throw limiterError(Error, 'ERR_LIMITER_KEY', message);
}
