// Replaces a file's content by other content, whole or not at all, also where the process is killed or
// the power fails. Knows nothing of snapshots.
//
// The content goes to a temporary file beside the file, to the disk, and only then under its name. What
// write-file-atomic and atomically do is not enough:
// - On SIGTERM in the middle of a save they tidy up and end the process, although its own handler, set by
//   `once`, is about to save a last time.
// - They make one call of write(), which on a full disk writes a part and says nothing, so that a file cut
//   off replaces the whole one.
// - What a killed process left cannot be told from a backup by the names of the one; the other makes
//   folders that are missing.
// - Neither syncs the folder, nor follows a link to a file that is not there yet.

import { randomBytes } from 'node:crypto';
import { chown, open, readdir, readlink, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

/** Addresses and names are nobody else's business. */
const OWNER_ONLY = 0o600;
/** A temporary file as old as that is of a process that was killed. */
const ABANDONED_MS = 60_000;
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
    await write(temporary, content, file);
    await rename(temporary, file.path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(file.path));
  await removeAbandoned(file.path);
}

/** Where a link leads, whether there is a file or not: it is not the link which is replaced. */
async function target(path: string): Promise<Target> {
  try {
    const real = await realpath(path);
    const { mode, uid, gid } = await stat(real);
    return { path: real, mode: mode & 0o777, owner: { uid, gid } };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const link = await readlink(path).catch(() => undefined);
  if (link === undefined) return { path, mode: OWNER_ONLY };
  return target(resolve(await realpath(dirname(path)), link));
}

async function write(path: string, content: AsyncIterable<Uint8Array>, { mode, owner }: Target) {
  const file = await open(path, 'wx', OWNER_ONLY);
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
