// connectionKey: a key for as long as a connection lasts, that nobody chooses and no other ever has.

import { randomUUID } from 'node:crypto';
import { refused } from '../common/errors.js';

// Of this thread of this process: connections of two workers must not meet in one limiter.
const PREFIX = randomUUID();
const KEYS = new WeakMap<object, string>();
let connections = 0;

/**
 * The key of a connection: the same for the same object (a socket, a WebSocket, a request), never that of
 * another, in this process or the next. Costs a look into a WeakMap.
 * @throws `ERR_LIMITER_KEY` for what is no object.
 */
export function connectionKey(socket: object): string {
  const known = KEYS.get(socket);
  if (known !== undefined) return known;
  if (typeof socket !== 'object' || socket === null) {
    throw refused('ERR_LIMITER_KEY', 'a connection', socket, 'an object');
  }
  connections += 1;
  const key = `${PREFIX}-${connections}`;
  KEYS.set(socket, key);
  return key;
}
