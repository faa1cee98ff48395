// The identity of a connection: the client's address, the keys that limits use for it, and the callbacks to the guard
// of its server.

import { keyWithin, type Subnets } from '../address/address-key.js';
import { connectionKey } from '../address/connection-key.js';
import type { Keys } from '../rules/types.js';
import type { GuardCounters } from './guard-stats.js';

/** The address of a client, and the key under which limits count it. */
export interface ClientAddress {
  /** The address that the socket or a trusted proxy reports; undefined if there is none, as for a Unix socket. */
  readonly address: string | undefined;
  /**
   * The key of the address. A connection without an address has a key of its own, so that it does not share its limits
   * with other connections without an address.
   */
  readonly key: string;
  /** Whether the key is of no use after the connection has closed. */
  readonly isTransient: boolean;
}

/** Who connects: the address, and the keys by which a RuleLimiter counts the connection. */
export interface Client extends ClientAddress {
  readonly keys: Keys;
}

/** What a guarded connection needs from the guard of its server. */
export interface ConnectionContext {
  /** The key of this connection. */
  readonly key: string;
  readonly client: Client;
  /** The counters of the guard. */
  readonly counters: GuardCounters;
  /** Removes the connection from the guarded connections. */
  remove(): void;
  /** Counts an offence of the client: its connection had to be closed. Throws nothing. */
  countOffence(): void;
  /** Reports an error that the user's code threw. */
  reportError(error: unknown): void;
}

export function clientAddress(
  address: string | undefined,
  subnets: Subnets,
  socket: object,
): ClientAddress {
  const key = keyWithin(address, subnets);
  return { address, key: key ?? connectionKey(socket), isTransient: key === undefined };
}
