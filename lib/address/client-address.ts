// clientAddress: who sent a request, by the word of those proxies alone that are named. Guarantees that a
// header can be neither believed from anybody else, nor make it throw.

import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import proxyaddr from 'proxy-addr';
import { limiterError, refused } from '../common/errors.js';
import { readOptions } from '../common/options.js';
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
export interface ClientRequest {
  readonly headers: IncomingMessage['headers'];
  /** Mocks of requests, and adapters of platforms without sockets, have none. */
  readonly socket?: Pick<Socket, 'remoteAddress'> | undefined;
}

/**
 * Entries of X-Forwarded-For that are read, from its end. No chain of proxies is so long, but a client among the
 * trusted could make each request cost milliseconds.
 */
const MOST_HOPS = 32;

/**
 * The address of the client: the socket's, or where that is a proxy's that is trusted, what it says in
 * X-Forwarded-For, and so on. Where a trusted proxy says what is no address (`unknown`), its own stands:
 * nobody else's may. Of the header at most the last 32 entries are read; where all of those are trusted, the address of
 * the first of them stands. Undefined where there is none: a Unix socket, or one that is closed.
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
  return socket?.remoteAddress;
}

/** From the socket outward, up to the first that is not trusted. */
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

/** The entries of a list, from its end; RFC 9110 has spaces and tabs around them, and empty ones left out. */
function lastEntries(header: unknown): string[] {
  if (typeof header !== 'string') return [];
  const entries: string[] = [];
  let end = header.length;
  while (end >= 0 && entries.length < MOST_HOPS) {
    const start = end === 0 ? 0 : header.lastIndexOf(',', end - 1) + 1;
    entries.push(header.slice(start, end).trim());
    end = start - 1;
  }
  return entries.filter((entry) => entry !== '');
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
