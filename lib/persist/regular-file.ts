// What kind of file a path may lead to.

import type { BigIntStats, Stats } from 'node:fs';
import { limiterError } from '../common/errors.js';

/**
 * Throws `ERR_LIMITER_OPTION` for a device, a FIFO or a socket: reading one may never end, and a rename would put a file in
 * its place. A folder fails with the system's own error.
 */
export function requireFile(stats: Stats | BigIntStats, path: string): void {
  if (stats.isFile() || stats.isDirectory()) return;
  const kind = stats.isFIFO() ? 'a FIFO' : stats.isSocket() ? 'a socket' : 'a device';
  const message = `the path of a snapshot must lead to a regular file, got ${kind}: ${path}`;
  throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
}
