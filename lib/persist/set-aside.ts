// Preserves files that cannot be loaded: before a save replaces a file that is damaged, or that a limiter has rejected,
// the file is copied.

import { constants } from 'node:fs';
import { copyFile, type FileHandle, open, realpath, stat } from 'node:fs/promises';
import { hasDocument, readDocument } from './document.js';

/** The fingerprints of the files that this process has loaded or saved, by path. */
const intactFiles = new Map<string, string>();
/** The paths of files that a limiter has rejected. */
const rejectedPaths = new Set<string>();
/** The fingerprints of the damaged files that were copied, by path: if saves fail after that, none is copied again. */
const copiedFiles = new Map<string, string>();

/** Records that the file of a path has been loaded or saved, with its fingerprint at that time. */
export function recordIntact(path: string, fingerprint: string | undefined): void {
  rejectedPaths.delete(path);
  copiedFiles.delete(path);
  if (fingerprint !== undefined) intactFiles.set(path, fingerprint);
}

/** Records that a limiter has rejected the file of a path. */
export function recordRejected(path: string): void {
  intactFiles.delete(path);
  rejectedPaths.add(path);
}

/** Returns a value that changes when the file is written; undefined if the file is missing or empty. */
export async function fingerprintOf(path: string): Promise<string | undefined> {
  const stats = await stat(path, { bigint: true }).catch(() => undefined);
  if (!stats?.isFile() || stats.size === 0n) return undefined;
  return `${stats.ino} ${stats.size} ${stats.mtimeNs}`;
}

/**
 * Copies the file of a path to `<file>.damaged-<time>` unless it is intact. To find out, it reads a file that this
 * process has not loaded or saved. Rejects with the system's error if the copy fails.
 */
export async function setAside(path: string): Promise<void> {
  const fingerprint = await fingerprintOf(path);
  if (fingerprint === undefined || fingerprint === intactFiles.get(path)) return;
  if (fingerprint === copiedFiles.get(path)) return;
  if (!rejectedPaths.has(path) && (await isIntact(path))) return;
  const time = new Date().toISOString().replaceAll(/[-:.]/g, '');
  const copy = `${await realpath(path)}.damaged-${time}`;
  try {
    await copyFile(path, copy, constants.COPYFILE_EXCL);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const message =
      `${path} is damaged, and cannot be copied to ${copy} (${code}): ` +
      'move it away, or let the process write its folder';
    throw Object.assign(new Error(message, { cause: error }), { code });
  }
  copiedFiles.set(path, fingerprint);
}

/** Whether a file is a complete document or none. True for an unreadable file too, because a save may repair it. */
async function isIntact(path: string): Promise<boolean> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'r');
    if (await hasDocument(file)) for await (const _ of readDocument(file, path));
    return true;
  } catch (error) {
    return (error as { code?: unknown }).code !== 'ERR_LIMITER_SNAPSHOT';
  } finally {
    await file?.close();
  }
}
