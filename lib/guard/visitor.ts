// Whoever connects: an address and the key it counts by.

import { keyWithin, type Subnets } from '../address/address-key.js';
import { connectionKey } from '../address/connection-key.js';

export interface Visitor {
  /** As the socket or a trusted proxy says; undefined where nobody does, as of a Unix socket. */
  readonly address: string | undefined;
  /** Of the address. Where there is none, the connection's own: nobody is limited in another's place. */
  readonly key: string;
  /** Whether the key is of no use once the connection is closed. */
  readonly isTransient: boolean;
}

/** What a connection knows of where it belongs. */
export interface Belonging {
  readonly key: string;
  readonly visitor: Visitor;
  /** It is guarded no more. */
  left(): void;
  /** It had to be closed for what its peer did. */
  offended(): void;
  /** What is the user's has thrown. */
  failed(error: unknown): void;
}

export function visitor(address: string | undefined, subnets: Subnets, socket: object): Visitor {
  const key = keyWithin(address, subnets);
  return { address, key: key ?? connectionKey(socket), isTransient: key === undefined };
}
