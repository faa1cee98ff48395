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
  return filesIn(folder())
    .filter((file) => file.startsWith(own) && !UNFINISHED.test(file))
    .map((file) => file.slice(own.length))
    .filter(isSharedName)
    .sort();
}

/** There may be no /dev/shm. */
function filesIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** The beginning of all names of this user's files: users of one folder cannot take each other's names by accident. */
function prefix(): string {
  const user = process.geteuid?.();
  return user === undefined ? 'relay-limiter-' : `relay-limiter-${user}-`;
}

function folder(): string {
  if (process.platform === 'linux') return '/dev/shm';
  const path = join(tmpdir(), prefix().slice(0, -1));
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw unsafe(path, error);
  }
  // Not of what a symbolic link leads to: whoever made the link may make another one.
  const found = lstatSync(path);
  const isOpen = process.platform !== 'win32' && (found.mode & 0o077) !== 0;
  const isOthers = found.uid !== (process.geteuid?.() ?? found.uid);
  if (!found.isDirectory() || isOpen || isOthers) throw unsafe(path);
  return path;
}

function unsafe(path: string, cause?: unknown): Error {
  const message = `the folder ${path} must be one of this user, with mode 0700`;
  return limiterError(Error, 'ERR_LIMITER_SHARED', message, cause);
}
