// Rejects paths that do not lead to a regular file.

import type { BigIntStats, Stats } from 'node:fs';
import { limiterError } from '../common/errors.js';

/**
 * Accepts a folder too: reading or replacing it fails with the system's own error.
 * @throws `ERR_LIMITER_OPTION` for a device, a FIFO or a socket. Reading one may never end, and a rename would replace
 * it by a file.
 */
export function requireFile(stats: Stats | BigIntStats, path: string): void {
  if (stats.isFile() || stats.isDirectory()) return;
  const kind = stats.isFIFO() ? 'a FIFO' : stats.isSocket() ? 'a socket' : 'a device';
  const message = `the path of a snapshot must lead to a regular file, got ${kind}: ${path}`;
  throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
}
