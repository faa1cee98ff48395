// Limiters in files: save, load, and what the time between them does to bans.

import { type FileHandle, open, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { refused } from '../common/errors.js';
import { hasMethods } from '../common/kinds.js';
import { aged } from './age.js';
import { damaged } from './damaged.js';
import { readDocument, writeDocument } from './document.js';
import { requireFile } from './regular-file.js';
import { replaceFile } from './replace-file.js';
import type { Persistent } from './saved.js';
import { lookOf, noteRefused, noteWhole, setAside } from './set-aside.js';
import { slicesOf } from './slices.js';
import { takeTurns } from './turns.js';

/** The last save of each path: the next one waits for it, or an older snapshot could come last. */
const saves = new Map<string, Promise<void>>();

/**
 * Saves what a limiter remembers of its peers to a file, which from then on is this snapshot, and until
 * then, whatever happens, the old one: the text goes to a temporary file beside it, is synced to the disk
 * and renamed. Saves of one path follow each other.
 *
 * A limiter is written in slices of a thousand peers (`snapshotSlices`), about two milliseconds each, between
 * which everything else may run: each peer is saved as it is at its own slice.
 *
 * A new file is readable and writable to its owner alone; one that was there keeps its permissions, and
 * its owner where the system lets us. Where a symbolic link leads to a file, there or not yet, that one is
 * written. The folder must exist. A file that cannot be replaced, since it is mounted by itself or its folder
 * cannot be written, is written in place: whole at every moment as well.
 *
 * A file that is damaged, or that `loadSnapshot` has refused for its limiter, is copied to `<path>.damaged-<time>` before.
 *
 * Rejects with the system's error where it cannot be written (the old file stays, no temporary one
 * does), with `ERR_LIMITER_OPTION` for a path that is no string or leads to a device, a FIFO or a socket, or for what
 * is no limiter, and with what the snapshot throws.
 * @example
 * await saveSnapshot(limiter, 'bans.json');
 */
export async function saveSnapshot(limiter: Persistent, path: string): Promise<void> {
  requirePersistent(limiter);
  const file = resolvePath(path);
  const slices = slicesOf(limiter);
  const before = saves.get(file);
  const save = after(before, async () => {
    await setAside(file);
    await replaceFile(file, writeDocument(slices));
    noteWhole(file, await lookOf(file));
  });
  saves.set(file, save);
  try {
    await save;
  } finally {
    if (saves.get(file) === save) saves.delete(file);
  }
}

/**
 * Restores what `saveSnapshot` wrote, and returns how many peers came back; 1 for a limiter that does not
 * count them (`PolicyLimiter`), 0 where there is no file, or nothing in it: a first start is no error.
 *
 * The time that has passed since by the wall clock counts: bans have so much less left, buckets were refilled
 * so much longer ago, and a peer whose ban is over comes back without any violation, as a check would have it.
 * If the wall clock went back no time has passed, so a ban is never longer than its duration.
 *
 * The file is read, and its peers are put back, in slices of a thousand peers, about three milliseconds each.
 *
 * Rejects with `ERR_LIMITER_SNAPSHOT` for a file that is damaged, cut off, not ours or of another kind of limiter;
 * with the system's error for one that cannot be read; with `ERR_LIMITER_OPTION` for a path that is no
 * string or leads to a device, a FIFO or a socket, or for what is no limiter. Nothing has changed then.
 * @example
 * const limiter = new OrderbookRateLimiter();
 * await loadSnapshot(limiter, 'bans.json');
 */
export async function loadSnapshot(limiter: Persistent, path: string): Promise<number> {
  requirePersistent(limiter);
  const name = resolvePath(path);
  await saves.get(name)?.catch(() => {});
  const file = await openIfThere(name);
  if (file === undefined) return 0;
  try {
    const look = await lookOf(name);
    const restored = await load(limiter, file, name);
    noteWhole(name, look);
    return restored;
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ERR_LIMITER_SNAPSHOT') noteRefused(name);
    throw error;
  }
}

async function load(limiter: Persistent, file: FileHandle, name: string): Promise<number> {
  const slices: object[] = [];
  try {
    for await (const { savedAt, snapshot } of readDocument(file, name)) {
      slices.push(aged(snapshot, Math.max(0, Date.now() - savedAt) / 1000));
    }
  } finally {
    await file.close();
  }
  return restore(limiter, slices, name);
}

async function restore(limiter: Persistent, slices: object[], name: string): Promise<number> {
  if (limiter.restoreSlices !== undefined) {
    let restored = 0;
    for await (restored of takeTurns(limiter.restoreSlices(slices)));
    return restored;
  }
  const [snapshot, ...others] = slices;
  if (snapshot === undefined || others.length > 0) {
    throw damaged(name, 'it is of a limiter that is restored in slices');
  }
  const restored = limiter.restore(snapshot);
  return typeof restored === 'number' ? restored : 1;
}

/** Throws `ERR_LIMITER_OPTION` unless it can be saved and restored. */
export function requirePersistent(limiter: unknown): void {
  if (hasMethods(limiter, 'snapshot', 'restore')) return;
  const accepted = 'an object with the methods snapshot and restore';
  throw refused('ERR_LIMITER_OPTION', 'the limiter', limiter, accepted);
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

/** undefined if there is no file, or nothing in it: a file that is mounted by itself is empty at the first start. */
async function openIfThere(file: string): Promise<FileHandle | undefined> {
  try {
    const stats = await stat(file);
    requireFile(stats, file);
    return stats.size === 0 ? undefined : await open(file, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
