// The keys of a request by the scopes of a RuleLimiter: its connection and its client's address, if the limiter has such
// scopes, and those that the user's function names.

import { addressKey } from '../address/address-key.js';
import { connectionKey } from '../address/connection-key.js';
import type { RuleLimiter } from '../rules/rule-limiter.js';
import type { RulePeer } from '../rules/rule-peer.js';
import type { Keys } from '../rules/types.js';
import { type Client, type Connection, noAddressError } from './client.js';

export class RequestKeys<Request, Response> {
  readonly #limiter: RuleLimiter;
  readonly #client: Client<Request, Response>;
  readonly #hasConnection: boolean;
  /** Undefined: the limiter has no such scope, or derives its keys. */
  readonly #addressKind: 'text' | 'address' | undefined;
  /** The opened peers by connection, if their keys never change; null after the first request. */
  readonly #peers = new WeakMap<object, RulePeer | null>();

  constructor(limiter: RuleLimiter, client: Client<Request, Response>) {
    this.#limiter = limiter;
    this.#client = client;
    const kindOf = (scope: string) =>
      limiter.context.scopes.find(({ name }) => name === scope)?.kind;
    const addressKind = kindOf('address');
    this.#hasConnection = kindOf('connection') === 'text';
    this.#addressKind =
      addressKind === 'text' || addressKind === 'address' ? addressKind : undefined;
  }

  /**
   * Returns the opened peer of a request's connection, with its keys and no plan. Undefined if the keys of its requests may
   * differ, and for its first request: many connections have only one, and to open a peer takes longer than a check.
   * @throws as `of`
   */
  peerOf(request: Request, response: Response): RulePeer | undefined {
    if (!this.#client.isSamePerConnection) return undefined;
    const connection = this.#client.connection(request, response);
    if (connection === undefined || connection.destroyed === true) return undefined;
    const known = this.#peers.get(connection);
    if (known) return known;
    const isFirst = known === undefined;
    const peer = isFirst ? null : this.#limiter.open(this.#ownKeys(request, response));
    this.#peers.set(connection, peer);
    return peer ?? undefined;
  }

  /**
   * Returns the keys of a request. `given` go before its own.
   * @throws `ERR_LIMITER_KEY` if the limiter has a scope `address` and the request has none.
   */
  of(request: Request, response: Response, given?: Keys): Keys {
    const own = this.#ownKeys(request, response, given);
    return given === undefined ? own : { ...own, ...present(given) };
  }

  #ownKeys(request: Request, response: Response, given?: Keys): Keys {
    const keys: Record<string, string> = {};
    if (this.#addressKind !== undefined && given?.['address'] === undefined) {
      const address = this.#client.address(request, response);
      if (address === undefined || address === '') throw noAddressError('keys');
      keys['address'] = this.#addressKind === 'text' ? addressKey(address) : address;
    }
    if (this.#hasConnection && given?.['connection'] === undefined) {
      const connection = this.#client.connection(request, response);
      // A connection that has closed has no key any more: nobody would remove it.
      if (connection !== undefined && connection.destroyed !== true) {
        keys['connection'] = connectionKey(connection);
        removeOnClose(this.#limiter, connection);
      }
    }
    return keys;
  }
}

/** Without the keys that are undefined, which must not replace others. */
function present(keys: Keys): Keys {
  return Object.fromEntries(Object.entries(keys).filter(([, key]) => key !== undefined));
}

/** The limiters that have a key of a connection. One listener removes it from all: Node warns above ten. */
const LIMITERS = new WeakMap<Connection, Set<RuleLimiter>>();

/** Only the key of the connection: an address may have other connections, and bans. */
function removeOnClose(limiter: RuleLimiter, connection: Connection): void {
  const known = LIMITERS.get(connection);
  if (known !== undefined) {
    known.add(limiter);
    return;
  }
  const limiters = new Set([limiter]);
  LIMITERS.set(connection, limiters);
  const key = connectionKey(connection);
  connection.once?.('close', () => {
    for (const each of limiters) each.removePeer({ connection: key });
  });
}
