// Limiters in files: save, load, and what the time between them does to bans.

import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { refused } from '../errors.js';
import { aged } from './age.js';
import { type Persistent, readDocument, writeDocument } from './document.js';
import { replaceFile } from './replace-file.js';

/** The last save of each path: the next one waits for it, or an older snapshot could come last. */
const saves = new Map<string, Promise<void>>();

/**
 * Writes what `limiter.snapshot()` gives to a file, which from then on is this snapshot, and until
 * then, whatever happens, the old one: the text goes to a temporary file beside it, is synced to the disk
 * and renamed. The snapshot is taken at once, and written down a thousand peers at a time; saves of one
 * path follow each other.
 *
 * A new file is readable and writable to its owner alone; one that was there keeps its permissions, and
 * its owner where the system lets us. Where a symbolic link leads to a file, there or not yet, that one is
 * written. The folder must exist.
 *
 * Rejects with the system's error where it cannot be written (the old file stays, no temporary one
 * does), with `ERR_LIMITER_OPTION` for a path that is no string, and with what `snapshot()` throws.
 */
export async function saveSnapshot(limiter: Persistent, path: string): Promise<void> {
  const file = resolvePath(path);
  const saved = { savedAt: Math.max(0, Date.now()), snapshot: limiter.snapshot() };
  const before = saves.get(file);
  const save = after(before, async () => replaceFile(file, await writeDocument(saved)));
  saves.set(file, save);
  try {
    await save;
  } finally {
    if (saves.get(file) === save) saves.delete(file);
  }
}

/**
 * Puts back what `saveSnapshot` wrote, and says how many peers came back; 1 for a limiter that does not
 * count them (`PolicyLimiter`), 0 where there is no file: a first start is no error.
 *
 * The time that has passed since by the wall clock counts: bans have so much less left, and a peer whose
 * ban is over comes back without any violation, as a check would have it. If the wall clock went back no
 * time has passed, so a ban is never longer than its duration.
 *
 * Rejects with `ERR_LIMITER_SNAPSHOT` for a file that is damaged, cut off, not ours or of another kind of limiter;
 * with the system's error for one that cannot be read; with `ERR_LIMITER_OPTION` for a path that is no
 * string. Nothing has changed then.
 */
export async function loadSnapshot(limiter: Persistent, path: string): Promise<number> {
  const file = resolvePath(path);
  const bytes = await readIfThere(file);
  if (bytes === undefined) return 0;
  const { savedAt, snapshot } = readDocument(bytes, file);
  const seconds = Math.max(0, Date.now() - savedAt) / 1000;
  const restored = limiter.restore(aged(snapshot, seconds));
  return typeof restored === 'number' ? restored : 1;
}

/** Throws `ERR_LIMITER_OPTION` unless `path` is one. */
export function resolvePath(path: unknown): string {
  if (typeof path === 'string' && path !== '') return resolve(path);
  throw refused('ERR_LIMITER_OPTION', 'the path of a snapshot', path, 'a string that is not empty');
}

async function after(before: Promise<void> | undefined, act: () => Promise<void>): Promise<void> {
  // Whoever called for that one hears of its failure.
  await before?.catch(() => {});
  return act();
}

async function readIfThere(file: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
