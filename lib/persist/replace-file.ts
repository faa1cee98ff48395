// Replaces a file's content by other content, whole or not at all, also where the process is killed or
// the power fails. Knows nothing of snapshots.
//
// The content goes to a temporary file beside the file, to the disk, and only then under its name. Packages that do
// this make one call of write(), which on a full disk writes a part and says nothing, so that a file cut
// off replaces the whole one; FileHandle.writeFile goes on until all is written, or fails.

import { randomBytes } from 'node:crypto';
import { open, readdir, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** Addresses and names are nobody else's business. */
const OWNER_ONLY = 0o600;
/** A temporary file as old as that is of a process that was killed. */
const ABANDONED_MS = 60_000;
const TEMPORARY = /^\.[0-9a-f]{16}\.tmp$/;

/**
 * Keeps the permissions of a file that was there; a new one is readable and writable to its owner alone.
 * What fails rejects with the system's error: the file is what it was, and no temporary one is left.
 */
export async function replaceFile(path: string, content: string): Promise<void> {
  const file = await target(path);
  const temporary = `${file.path}.${randomBytes(8).toString('hex')}.tmp`;
  try {
    await write(temporary, content, file.mode);
    await rename(temporary, file.path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(file.path));
  await removeAbandoned(file.path);
}

/** Where a link leads, so that it is not the link which is replaced. */
async function target(path: string): Promise<{ path: string; mode: number }> {
  try {
    const real = await realpath(path);
    const { mode } = await stat(real);
    return { path: real, mode: mode & 0o777 };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return { path, mode: OWNER_ONLY };
  }
}

async function write(path: string, content: string, mode: number): Promise<void> {
  const file = await open(path, 'wx', OWNER_ONLY);
  try {
    await file.writeFile(content);
    await file.chmod(mode);
    await file.sync();
  } finally {
    await file.close();
  }
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
