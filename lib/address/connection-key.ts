// connectionKey: a unique key for each connection, which peers cannot choose.

import { invalidValue } from '../common/errors.js';

/**
 * Random per thread: in one limiter, connections of two worker threads must never have the same key. Some platforms give
 * no random numbers while a module is loaded.
 */
let prefix: string | undefined;
const KEYS = new WeakMap<object, string>();
let connections = 0;

/**
 * Returns the key of a connection. The same object (a socket, a WebSocket, a request) always has the same key, and no
 * other object ever has it, in this process or another. It costs one lookup in a WeakMap.
 * @throws `ERR_LIMITER_KEY` for a value that is no object.
 * @example
 * import { Socket } from 'node:net';
 * import { RateLimiter } from 'relay-limiter';
 * import { connectionKey } from 'relay-limiter/address';
 *
 * const limiter = new RateLimiter();
 * const socket = new Socket();
 * const key = connectionKey(socket);
 * // Prints true, then [ 'allow', 0 ].
 * console.log(key === connectionKey(socket), limiter.check(key));
 * limiter.close();
 */
export function connectionKey(socket: object): string {
  const known = KEYS.get(socket);
  if (known !== undefined) return known;
  if (typeof socket !== 'object' || socket === null) {
    throw invalidValue('ERR_LIMITER_KEY', 'a connection', socket, 'an object');
  }
  prefix ??= crypto.randomUUID();
  connections += 1;
  const key = `${prefix}-${connections}`;
  KEYS.set(socket, key);
  return key;
}
