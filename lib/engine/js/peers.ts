// Tables of the TypeScript engine: Maps, whose limit of some sixteen million entries is told as what
// it means.

import { limiterError } from '../../errors.js';

/** `table.set`. @throws `ERR_LIMITER_MEMORY` where the Map takes no more; nothing has changed then. */
export function store<T>(table: Map<string, T>, key: string, value: T): void {
  try {
    table.set(key, value);
  } catch (cause) {
    throw limiterError(Error, 'ERR_LIMITER_MEMORY', 'no memory for one more peer', cause);
  }
}
