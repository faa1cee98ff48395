// Keeps what cannot be loaded: before a save replaces a file that is not a whole document, or that a limiter has refused, it
// is copied.

import { constants } from 'node:fs';
import { copyFile, type FileHandle, open, realpath, stat } from 'node:fs/promises';
import { readDocument } from './document.js';

/** What the files of paths looked like when this process had loaded or saved them. */
const wholes = new Map<string, string>();
/** Paths whose file a limiter has refused. */
const refusals = new Set<string>();
/** What the files of paths looked like when they were copied: a save that fails copies none again. */
const copied = new Map<string, string>();

/** The file of a path has been loaded or saved, and `look` is what it looked like. */
export function noteWhole(path: string, look: string | undefined): void {
  refusals.delete(path);
  copied.delete(path);
  if (look !== undefined) wholes.set(path, look);
}

/** A limiter has refused the file of a path. */
export function noteRefused(path: string): void {
  wholes.delete(path);
  refusals.add(path);
}

/** What changes when a file is written; undefined where there is none, or nothing in it. */
export async function lookOf(path: string): Promise<string | undefined> {
  const stats = await stat(path, { bigint: true }).catch(() => undefined);
  if (!stats?.isFile() || stats.size === 0n) return undefined;
  return `${stats.ino} ${stats.size} ${stats.mtimeNs}`;
}

/**
 * Copies the file of a path to `<file>.damaged-<time>` unless it is whole. A file that this process has not loaded or
 * saved is read for it. Rejects with the system's error where it cannot be copied.
 */
export async function setAside(path: string): Promise<void> {
  const look = await lookOf(path);
  if (look === undefined || look === wholes.get(path) || look === copied.get(path)) return;
  if (!refusals.has(path) && (await isWhole(path))) return;
  const time = new Date().toISOString().replaceAll(/[-:.]/g, '');
  const aside = `${await realpath(path)}.damaged-${time}`;
  try {
    await copyFile(path, aside, constants.COPYFILE_EXCL);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const message = `${path} is damaged, and cannot be copied to ${aside} (${code}): move it away, or let the process write its folder`;
    throw Object.assign(new Error(message, { cause: error }), { code });
  }
  copied.set(path, look);
}

/** Also where it cannot be read: nothing is known of it then, and a save may be what mends it. */
async function isWhole(path: string): Promise<boolean> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'r');
    for await (const _ of readDocument(file, path));
    return true;
  } catch (error) {
    return (error as { code?: unknown }).code !== 'ERR_LIMITER_SNAPSHOT';
  } finally {
    await file?.close();
  }
}
