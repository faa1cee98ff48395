// The keys of a request by the scopes of a RuleLimiter: its connection and its client's address, if the limiter has such
// scopes, and those that the user's function names.

import { connectionKey } from '../address/connection-key.js';
import { ADDRESS, ClientScopes, CONNECTION, requireOtherScopes } from '../guard/client-scopes.js';
import { tryStalled } from '../limiters/stalled.js';
import type { AnyRulePeer, AnyRules } from '../rules/any-rules.js';
import type { Keys } from '../rules/types.js';
import { type Client, type Connection, noAddressError } from './client.js';

export class RequestKeys<Request, Response> {
  readonly #limiter: AnyRules;
  readonly #client: Client<Request, Response>;
  readonly #scopes: ClientScopes;
  /** The opened peers by connection, if their keys never change; null after the first request. */
  readonly #peers = new WeakMap<object, AnyRulePeer | null>();

  /** @throws `ERR_LIMITER_OPTION` for scopes that cannot have these keys. */
  constructor(limiter: AnyRules, client: Client<Request, Response>) {
    this.#limiter = limiter;
    this.#client = client;
    this.#scopes = new ClientScopes(limiter);
  }

  /**
   * Returns the opened peer of a request's connection, with its keys and no plan. Undefined if the keys of its requests may
   * differ, and for its first request: many connections have only one, and to open a peer takes longer than a check.
   * @throws as `of`
   */
  peerOf(request: Request, response: Response): AnyRulePeer | undefined {
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
   * Returns the keys of a request, with those that the user's function has named for it.
   * @throws `ERR_LIMITER_KEY` if the limiter has a scope `address` and the request has none, or if `others` names a scope
   * of these.
   */
  of(request: Request, response: Response, others?: Keys): Keys {
    if (others === undefined) return this.#ownKeys(request, response);
    requireOtherScopes(others, 'the result of keys', 'the limit');
    return { ...this.#ownKeys(request, response), ...present(others) };
  }

  #ownKeys(request: Request, response: Response): Keys {
    const { addressKind, hasConnection } = this.#scopes;
    const keys: Record<string, string> = {};
    if (addressKind !== undefined) {
      const address = this.#client.address(request, response);
      if (address === undefined || address === '') throw noAddressError('trustedProxies');
      keys[ADDRESS] = addressKind === 'text' ? this.#client.key(request, response) : address;
    }
    if (hasConnection) {
      const connection = this.#client.connection(request, response);
      // A connection that has closed has no key any more: nobody would remove it.
      if (connection !== undefined && connection.destroyed !== true) {
        keys[CONNECTION] = connectionKey(connection);
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
const LIMITERS = new WeakMap<Connection, Set<AnyRules>>();

/** Only the key of the connection: an address may have other connections, and bans. */
function removeOnClose(limiter: AnyRules, connection: Connection): void {
  const known = LIMITERS.get(connection);
  if (known !== undefined) {
    known.add(limiter);
    return;
  }
  const limiters = new Set([limiter]);
  LIMITERS.set(connection, limiters);
  const key = connectionKey(connection);
  connection.once?.('close', () => {
    for (const each of limiters) tryStalled(() => each.removePeer({ connection: key }));
  });
}
