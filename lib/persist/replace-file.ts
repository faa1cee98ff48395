// Replaces a file's content by other content, whole or not at all, also where the process is killed or
// the power fails.
//
// The content goes to a temporary file beside the file, to the disk, and only then under its name. Where that cannot be,
// as of a file that is mounted by itself, it is written in place. What
// write-file-atomic and atomically do is not enough:
// - On SIGTERM in the middle of a save they tidy up and end the process, although its own handler, set by
//   `once`, is about to save a last time.
// - They make one call of write(), which on a full disk writes a part and says nothing, so that a file cut
//   off replaces the whole one.
// - What a killed process left cannot be told from a backup by the names of the one; the other makes
//   folders that are missing.
// - Neither syncs the folder, nor follows a link to a file that is not there yet.

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

/** Addresses and names are nobody else's business. */
const OWNER_ONLY = 0o600;
/** A temporary file as old as that is of a process that was killed. */
const ABANDONED_MS = 60_000;
/** The folder takes no file of ours. */
const NO_FOLDER = ['EACCES', 'EPERM', 'EROFS'];
/** The name stays with the file that has it: it is a mount point, or somebody else's in a folder of all. */
const NO_NAME = ['EBUSY', 'EXDEV', 'EACCES', 'EPERM'];
const TEMPORARY = /^\.[0-9a-f]{16}\.tmp$/;

interface Target {
  readonly path: string;
  readonly mode: number;
  /** Undefined: it is not there yet. */
  readonly owner?: { readonly uid: number; readonly gid: number };
}

/**
 * Keeps the permissions of a file that was there, and its owner where the system lets us; a new one is
 * readable and writable to its owner alone. What fails rejects with the system's error: the file is what it
 * was, and no temporary one is left.
 */
export async function replaceFile(path: string, content: AsyncIterable<Uint8Array>): Promise<void> {
  const file = await target(path);
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
  const isThere = file.owner !== undefined;
  const beside = await unless(open(temporary, 'wx', OWNER_ONLY), isThere ? NO_FOLDER : []);
  if (beside === undefined) return overwriteFile(file.path, content);
  await write(beside, temporary, content, file);
  const renamed = rename(temporary, file.path).then(() => true);
  if (await unless(renamed, isThere ? NO_NAME : [])) return;
  // Read in the chunks of a stream, and opened once more: it has the permissions of the file by now.
  await overwriteFile(file.path, createReadStream(temporary));
  await rm(temporary, { force: true });
}

/** What a promise resolves to; undefined where it fails with one of these codes. */
async function unless<T>(promise: Promise<T>, codes: readonly string[]): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (codes.includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

/** Where a link leads, whether there is a file or not: it is not the link which is replaced. */
async function target(path: string): Promise<Target> {
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
  return target(resolve(await realpath(dirname(path)), link));
}

async function write(
  file: FileHandle,
  path: string,
  content: AsyncIterable<Uint8Array>,
  { mode, owner }: Target,
) {
  try {
    for await (const part of content) {
      for (let at = 0; at < part.length; ) at += (await file.write(part, at)).bytesWritten;
    }
    const { uid, gid } = await file.stat();
    if (owner !== undefined && (uid !== owner.uid || gid !== owner.gid)) await give(path, owner);
    await file.chmod(mode);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Only root may give files away: who is not, saves all the same. */
async function give(path: string, { uid, gid }: NonNullable<Target['owner']>): Promise<void> {
  await chown(path, uid, gid).catch((error) => {
    if (error.code !== 'EPERM') throw error;
  });
}

/** Or a power failure could bring the old name back. Not every system can, and the file is whole either way. */
async function syncFolder(path: string): Promise<void> {
  try {
    const folder = await open(path, 'r');
    await folder.sync().finally(() => folder.close());
  } catch {}
}

/** What killed processes left. Failing to tidy up is no failure to save. */
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
