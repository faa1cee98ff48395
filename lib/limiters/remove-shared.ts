// removeShared: the end of a shared table.

import { requireShared } from '../common/shared-name.js';
import { selectSharedFiles } from '../engine/select.js';

/**
 * Removes the file of a shared table, by the value of the option `shared`, and returns whether there was one. Limiters
 * that have it keep sharing it, warn once, and show `shared.detached`; newer ones create another file. Use it to free the
 * memory of a table that is no longer used, or before limiters with other numbers start.
 *
 * A file of another version of this package, or a damaged one, can only be removed while no limiter has it; on Windows
 * that holds for every file. macOS and BSD do not tell whether a limiter of another version has it.
 * @throws `ERR_LIMITER_OPTION` for an invalid name, `ERR_LIMITER_ENGINE` without a native binary, `ERR_LIMITER_SHARED` if
 * the file is not a shared table of this user's, or cannot be removed: also if a process is stopped while it joins.
 * @example
 * import { RateLimiter, removeShared } from 'relay-limiter';
 *
 * const limiter = new RateLimiter({ rateLimit: 50, maxPeers: 1000, shared: 'example' });
 * console.log(limiter.check('alice')[0], limiter.shared?.attached); // allow 1
 * limiter.close(); // stops its cleanup
 * limiter.close(); // leaves the table
 * console.log(removeShared('example'), removeShared('example')); // true false
 */
export function removeShared(name: string): boolean {
  requireShared(name);
  const files = selectSharedFiles();
  return files.remove(files.pathOf(name));
}
