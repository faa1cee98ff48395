// clientAddress: the address of the client of a request. Only named proxies are trusted, so clients cannot forge their
// address. No header value makes it throw.

import proxyaddr from 'proxy-addr';
import { invalidValue, limiterError } from '../common/errors.js';
import { hasMethods } from '../common/kinds.js';
import { readOptions } from '../common/options.js';
import { readAddress, textOf } from './address.js';

/** Returns whether to trust the proxy with this address. Hop 0 is the peer of the socket. */
export type Trust = (address: string | undefined, hop: number) => boolean;

/** The options of `clientAddress`. */
export interface ClientAddressOptions {
  /**
   * The proxies that are trusted to set X-Forwarded-For: addresses, networks (`'10.0.0.0/8'`) and the names
   * `'loopback'`, `'linklocal'` and `'uniquelocal'`, as an array or separated by commas; or a function. The
   * function gets `undefined` for a Unix socket, which has no address, and must not be async: a promise is an error
   * (`ERR_LIMITER_OPTION`). Default: no proxy is trusted.
   */
  trustedProxies?: string | readonly string[] | Trust | undefined;
}

/** The part of a request that `clientAddress` reads. */
export interface ClientRequest {
  /** By name in lower case, as in Node. */
  readonly headers: { readonly [name: string]: string | readonly string[] | undefined };
  /** Missing in mock requests and in adapters of platforms without sockets. */
  readonly socket?: { readonly remoteAddress?: string | undefined } | undefined;
}

/**
 * The maximum number of entries of X-Forwarded-For that are read, from the end. No chain of proxies is so long, but a
 * client with a trusted address could otherwise make each request cost milliseconds.
 */
const MAX_HOPS = 32;

/**
 * Returns the address of the client of a request. This is the address of the socket, or, if that is a trusted proxy,
 * the last entry of X-Forwarded-For; if that entry is a trusted proxy too, the entry before it, and so on. If a trusted
 * proxy sends an entry that is no address (`unknown`), the result is the address of that proxy. At most the last 32
 * entries are read; if all of these are trusted, the result is the first of them. Undefined if there is no address: for
 * a Unix socket or a closed one.
 *
 * It reads its options at each call; `addressResolver` reads them once.
 * @throws `ERR_LIMITER_OPTION` for an invalid option.
 * @example
 * import { createServer } from 'node:http';
 * import { once } from 'node:events';
 * import type { AddressInfo } from 'node:net';
 * import { clientAddress } from 'relay-limiter/address';
 *
 * const server = createServer((request, response) => {
 *   response.end(clientAddress(request, { trustedProxies: 'loopback' }));
 * });
 * server.listen(0, '127.0.0.1');
 * await once(server, 'listening');
 *
 * const { port } = server.address() as AddressInfo;
 * const headers = { 'X-Forwarded-For': '203.0.113.7' };
 * const response = await fetch(`http://127.0.0.1:${port}`, { headers });
 * // Prints 203.0.113.7.
 * console.log(await response.text());
 * server.close();
 * server.closeAllConnections();
 */
export function clientAddress(
  request: ClientRequest,
  options?: ClientAddressOptions,
): string | undefined {
  return addressResolver(options)(request);
}

/**
 * Returns a function that does the same as `clientAddress` but reads the options only once.
 * @throws `ERR_LIMITER_OPTION` for an invalid option.
 * @example
 * import { addressResolver } from 'relay-limiter/address';
 *
 * const addressOf = addressResolver({ trustedProxies: ['10.0.0.0/8'] });
 * const request = {
 *   headers: { 'x-forwarded-for': '203.0.113.7' },
 *   socket: { remoteAddress: '10.0.0.1' },
 * };
 * // Prints 203.0.113.7.
 * console.log(addressOf(request));
 */
export function addressResolver(
  options?: ClientAddressOptions,
): (request: ClientRequest) => string | undefined {
  const { trustedProxies } = readOptions('clientAddress', options, ['trustedProxies']);
  const trust = readTrust(trustedProxies);
  return trust === undefined ? socketAddress : (request) => forwardedAddress(request, trust);
}

function socketAddress({ socket }: ClientRequest): string | undefined {
  return socket?.remoteAddress;
}

/** Follows the chain of proxies from the socket to the first address that is not trusted. */
function forwardedAddress(request: ClientRequest, trust: Trust): string | undefined {
  let last = socketAddress(request);
  let hop = 0;
  for (const text of lastEntries(request.headers['x-forwarded-for'])) {
    if (!trust(last, hop)) break;
    const address = readAddress(text);
    if (address === undefined) break;
    last = textOf(address);
    hop += 1;
  }
  return last;
}

/** The entries of a list, last one first, without surrounding spaces and empty entries (RFC 9110). */
function lastEntries(header: unknown): string[] {
  if (typeof header !== 'string') return [];
  const entries: string[] = [];
  let end = header.length;
  while (end >= 0 && entries.length < MAX_HOPS) {
    const start = end === 0 ? 0 : header.lastIndexOf(',', end - 1) + 1;
    entries.push(header.slice(start, end).trim());
    end = start - 1;
  }
  return entries.filter((entry) => entry !== '');
}

/** Reads the option `trustedProxies`; undefined without it. @throws `ERR_LIMITER_OPTION` */
export function readTrust(trustedProxies: unknown): Trust | undefined {
  if (trustedProxies === undefined) return undefined;
  if (typeof trustedProxies === 'function') return withoutPromises(trustedProxies as Trust);
  const isList = Array.isArray(trustedProxies) && trustedProxies.every(isText);
  if (!isList && !isText(trustedProxies)) {
    const accepted = 'addresses and networks as strings, or a function';
    throw invalidValue('ERR_LIMITER_OPTION', 'trustedProxies', trustedProxies, accepted);
  }
  const isNamed = compile([trustedProxies].flat().flatMap((text) => text.split(/\s*,\s*/)));
  return (text, hop) => {
    const address = readAddress(text);
    return address !== undefined && isNamed(textOf(address), hop);
  };
}

/** Every promise is true, so an async function would trust everybody. */
function withoutPromises(trust: Trust): Trust {
  return (address, hop) => {
    const isTrusted: unknown = trust(address, hop);
    if (!hasMethods(isTrusted, 'then')) return Boolean(isTrusted);
    throw invalidValue('ERR_LIMITER_OPTION', 'trustedProxies()', isTrusted, 'a boolean');
  };
}

function compile(proxies: string[]): (address: string, hop: number) => boolean {
  try {
    return proxyaddr.compile(proxies);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : cause;
    const message = `trustedProxies must be addresses and networks: ${reason}`;
    throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message, cause);
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}
