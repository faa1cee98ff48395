// clientAddress: who sent a request, by the word of those proxies alone that are named. Guarantees that a
// header can be neither believed from anybody else, nor make it throw.

import type { IncomingMessage } from 'node:http';
import proxyaddr from 'proxy-addr';
import { limiterError, refused } from '../errors.js';
import { readOptions } from '../options.js';
import { readAddress, textOf } from './address.js';

/** Whether what this address says of the one before it is believed; hop 0 is the socket's own. */
export type Trust = (address: string | undefined, hop: number) => boolean;

export interface ClientAddressOptions {
  /**
   * Whose X-Forwarded-For is believed: addresses and networks (`'10.0.0.0/8'`), the names `'loopback'`,
   * `'linklocal'` and `'uniquelocal'`, several of them, as a list or with commas between, or a function. A Unix socket has no address:
   * a function is asked of `undefined` then. Default: nobody's.
   */
  trustedProxies?: string | readonly string[] | Trust | undefined;
}

/** What is looked at of a request. */
export type ClientRequest = Pick<IncomingMessage, 'headers' | 'socket'>;

/**
 * The address of the client: the socket's, or where that is a proxy's that is trusted, what it says in
 * X-Forwarded-For, and so on. Where a trusted proxy says what is no address (`unknown`), its own stands:
 * nobody else's may. Undefined where there is none: a Unix socket, or one that is closed.
 *
 * Reads its options at each call; `addressResolver` does so once.
 * @throws `ERR_LIMITER_OPTION`
 */
export function clientAddress(
  request: ClientRequest,
  options?: ClientAddressOptions,
): string | undefined {
  return addressResolver(options)(request);
}

/** What `clientAddress` does, with its options read once. @throws `ERR_LIMITER_OPTION` */
export function addressResolver(
  options?: ClientAddressOptions,
): (request: ClientRequest) => string | undefined {
  const { trustedProxies } = readOptions('clientAddress', options, ['trustedProxies']);
  const trust = readTrust(trustedProxies);
  return trust === undefined ? socketAddress : (request) => forwardedAddress(request, trust);
}

function socketAddress({ socket }: ClientRequest): string | undefined {
  return socket.remoteAddress;
}

function forwardedAddress(request: ClientRequest, trust: Trust): string | undefined {
  // From the socket outward, up to the first that is not trusted.
  const addresses = proxyaddr.all(request as IncomingMessage, trust);
  let last = addresses[0];
  for (const text of addresses.slice(1)) {
    const address = readAddress(text);
    if (address === undefined) break;
    last = textOf(address);
  }
  return last;
}

function readTrust(trustedProxies: unknown): Trust | undefined {
  if (trustedProxies === undefined) return undefined;
  if (typeof trustedProxies === 'function') return trustedProxies as Trust;
  const isList = Array.isArray(trustedProxies) && trustedProxies.every(isText);
  if (!isList && !isText(trustedProxies)) {
    const accepted = 'addresses and networks, as text, or a function';
    throw refused('ERR_LIMITER_OPTION', 'trustedProxies', trustedProxies, accepted);
  }
  const isNamed = compile([trustedProxies].flat().flatMap((text) => text.split(/\s*,\s*/)));
  return (text, hop) => {
    const address = readAddress(text);
    return address !== undefined && isNamed(textOf(address), hop);
  };
}

function compile(proxies: string[]): (address: string, hop: number) => boolean {
  try {
    return proxyaddr.compile(proxies);
  } catch (cause) {
    const message = `trustedProxies: ${cause instanceof Error ? cause.message : cause}`;
    throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message, cause);
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}
