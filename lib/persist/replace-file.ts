// Replaces the content of a file completely or not at all, even if the process is killed or the power fails.
//
// The content is written to a temporary file in the same folder, synced to the disk, and renamed. If that is
// impossible, for example because the file is a mount point, the file is overwritten in place. The packages
// write-file-atomic and atomically are not sufficient:
// - On SIGTERM during a save they clean up and end the process, although the application has its own handler, set by
//   `once`, which is about to save a last time.
// - They call write() once. On a full disk that writes a part without an error, and the truncated file replaces the
//   complete one.
// - The temporary files of write-file-atomic cannot be told from backups by their names; atomically creates missing
//   folders.
// - Neither syncs the folder, nor follows a symbolic link whose target does not exist yet.

import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import {
  chown,
  type FileHandle,
  open,
  readdir,
  readlink,
  realpath,
  rename,
  rm,
  stat,
} from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { overwriteFile } from './in-place.js';
import { requireFile } from './regular-file.js';

/** Peer addresses and names are private data. */
const OWNER_ONLY = 0o600;
/** A temporary file of this age is left over from a killed process. */
const ABANDONED_MS = 60_000;
/** Errors of open if this process must not create files in the folder. */
const FOLDER_ERRORS = ['EACCES', 'EPERM', 'EROFS'];
/**
 * Errors of rename if the file cannot be replaced: it is a mount point, or belongs to another user in a folder with the
 * sticky bit.
 */
const RENAME_ERRORS = ['EBUSY', 'EXDEV', 'EACCES', 'EPERM'];
const TEMPORARY = /^\.[0-9a-f]{16}\.tmp$/;

interface Target {
  readonly path: string;
  readonly mode: number;
  /** Undefined if the file does not exist yet. */
  readonly owner?: { readonly uid: number; readonly gid: number };
}

/**
 * Keeps the permissions of an existing file, and its owner if the system allows that. A new file is readable and
 * writable only by its owner. Rejects with the system's error; then the file is unchanged and no temporary file is
 * left.
 */
export async function replaceFile(path: string, content: AsyncIterable<Uint8Array>): Promise<void> {
  const file = await resolveTarget(path);
  const temporary = `${file.path}.${randomBytes(8).toString('hex')}.tmp`;
  try {
    await replace(file, temporary, content);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(file.path));
  await removeAbandoned(file.path);
}

async function replace(file: Target, temporary: string, content: AsyncIterable<Uint8Array>) {
  const exists = file.owner !== undefined;
  const handle = await ignoreErrors(open(temporary, 'wx', OWNER_ONLY), exists ? FOLDER_ERRORS : []);
  if (handle === undefined) return overwriteFile(file.path, content);
  await write(handle, temporary, content, file);
  const renamed = rename(temporary, file.path).then(() => true);
  if (await ignoreErrors(renamed, exists ? RENAME_ERRORS : [])) return;
  // The stream opens the temporary file by its name, which is possible: its permissions are those of the file.
  await overwriteFile(file.path, createReadStream(temporary));
  await rm(temporary, { force: true });
}

/** Returns the value of a promise, or undefined if it rejects with one of these codes. */
async function ignoreErrors<T>(
  promise: Promise<T>,
  codes: readonly string[],
): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (codes.includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

/** Follows symbolic links, even to a file that does not exist: the target is replaced, not the link. */
async function resolveTarget(path: string): Promise<Target> {
  try {
    const real = await realpath(path);
    const stats = await stat(real);
    requireFile(stats, path);
    const { mode, uid, gid } = stats;
    return { path: real, mode: mode & 0o777, owner: { uid, gid } };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const link = await readlink(path).catch(() => undefined);
  if (link === undefined) return { path, mode: OWNER_ONLY };
  return resolveTarget(resolve(await realpath(dirname(path)), link));
}

async function write(
  file: FileHandle,
  path: string,
  content: AsyncIterable<Uint8Array>,
  { mode, owner }: Target,
) {
  try {
    // writeFile on a handle appends the whole part. file.write may write only a part of it.
    for await (const part of content) await file.writeFile(part);
    const { uid, gid } = await file.stat();
    if (owner !== undefined && (uid !== owner.uid || gid !== owner.gid))
      await changeOwner(path, owner);
    await file.chmod(mode);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Only root may change owners. For other users the save succeeds without it. */
async function changeOwner(
  path: string,
  { uid, gid }: NonNullable<Target['owner']>,
): Promise<void> {
  await chown(path, uid, gid).catch((error) => {
    if (error.code !== 'EPERM') throw error;
  });
}

/**
 * Syncs the folder: without this a power failure could undo the rename. Errors are ignored, because some systems do not
 * support it, and the file is complete in both cases.
 */
async function syncFolder(path: string): Promise<void> {
  try {
    const folder = await open(path, 'r');
    await folder.sync().finally(() => folder.close());
  } catch {}
}

/** Removes temporary files of killed processes. Errors are ignored: the save itself has succeeded. */
async function removeAbandoned(path: string): Promise<void> {
  const folder = dirname(path);
  const name = basename(path);
  try {
    for (const entry of await readdir(folder)) {
      if (!entry.startsWith(name) || !TEMPORARY.test(entry.slice(name.length))) continue;
      const { mtimeMs } = await stat(join(folder, entry));
      if (Date.now() - mtimeMs > ABANDONED_MS) await rm(join(folder, entry), { force: true });
    }
  } catch {}
}
