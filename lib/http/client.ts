// The client of a request: its address, its connection, and the keys made of them. An adapter provides it, since
// requests of node:http and web-standard requests say it in different ways: the latter say nothing, so `response` stands
// for all that is known of the exchange besides the request.

import { limiterError } from '../common/errors.js';
import type { Warn } from '../guard/misuse.js';

/** A connection, as an object that exists as long as the connection does. */
export interface Connection {
  readonly destroyed?: boolean;
  once?(event: 'close', listener: () => void): unknown;
}

export interface Client<Request, Response> {
  /** The key of the client's address or network. @throws `ERR_LIMITER_KEY` without an address. */
  readonly key: (request: Request, response: Response) => string;
  /** The client's address; undefined without one. */
  address(request: Request, response: Response): string | undefined;
  /** The connection, if only this client uses it; undefined behind a proxy and without a socket. */
  connection(request: Request, response: Response): Connection | undefined;
  /** Whether all requests of a connection have the same address. */
  readonly isSamePerConnection: boolean;
}

/** Reads the options in `CLIENT_OPTIONS`, and returns what knows the client of each request. */
export type ReadClient<Request, Response> = (
  given: Readonly<Record<string, unknown>>,
  warn: Warn,
) => Client<Request, Response>;

/** The options of `Client.key`. */
export const CLIENT_OPTIONS = ['trustedProxies', 'ipv4Subnet', 'ipv6Subnet'];

/** All requests without an address would share one bucket. `options`: those to set. */
export function noAddressError(options = 'trustedProxies or key'): Error {
  const message = `a request must have a client address, got none (as on a Unix socket): set ${options}`;
  return limiterError(Error, 'ERR_LIMITER_KEY', message);
}
