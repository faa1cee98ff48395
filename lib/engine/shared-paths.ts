// The paths of shared tables with names. On Linux they lie in /dev/shm, which is memory; elsewhere in a folder of the
// user's own below the system's folder for temporary files.

import { lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { limiterError } from '../common/errors.js';
import { invalidShared, isSharedName } from '../common/shared-name.js';

/** A file while it is created, on systems that have no files without a path (native/shared/file.h). */
const UNFINISHED = /\.\d+-[0-9a-f]+\.new$/;

/** The path of a table. @throws as SharedFiles.pathOf */
export function sharedPathOf(nameOrPath: string): string {
  if (isSharedName(nameOrPath)) return join(folder(), `${prefix()}${nameOrPath}`);
  if (isAbsolute(nameOrPath)) return resolve(nameOrPath);
  throw invalidShared(nameOrPath);
}

/** The names of this user's files in the folder for names. Others may have written files there too. */
export function sharedNames(): string[] {
  const own = prefix();
  return readdirSync(folder())
    .filter((file) => file.startsWith(own) && !UNFINISHED.test(file))
    .map((file) => file.slice(own.length))
    .filter(isSharedName)
    .sort();
}

/** The beginning of all names of this user's files: users of one folder cannot take each other's names by accident. */
function prefix(): string {
  const user = process.geteuid?.();
  return user === undefined ? 'relay-limiter-' : `relay-limiter-${user}-`;
}

function folder(): string {
  if (process.platform === 'linux') return '/dev/shm';
  const path = join(tmpdir(), prefix().slice(0, -1));
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const { uid, mode } = lstatSync(path);
  const isOpen = process.platform !== 'win32' && (mode & 0o077) !== 0;
  if (isOpen || uid !== (process.geteuid?.() ?? uid)) {
    const message = `the folder ${path} must belong to this user, with mode 0700`;
    throw limiterError(Error, 'ERR_LIMITER_SHARED', message);
  }
  return path;
}
