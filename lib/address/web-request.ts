// Web-standard requests as clientAddress reads requests: the server passes the address, since the request has none.

import type { ClientRequest } from './client-address.js';

/** What a server knows about a client besides its request. An object with more fields reaches the functions as it is. */
export interface ClientInfo {
  /** The address of the connection, as the server reports it: the client's, or that of a proxy. */
  readonly address?: string | undefined;
}

/** The parts of a request that tell its client's address. */
export function clientRequestOf({ headers }: Request, { address }: ClientInfo): ClientRequest {
  const field = (name: string) => headers.get(name) ?? undefined;
  return {
    headers: { 'x-forwarded-for': field('x-forwarded-for'), forwarded: field('forwarded') },
    socket: { remoteAddress: address },
  };
}
