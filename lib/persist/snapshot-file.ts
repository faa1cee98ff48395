// saveSnapshot and loadSnapshot: save a limiter to a file and load it, taking the time in between into account.

import { type FileHandle, open, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { invalidValue } from '../common/errors.js';
import { hasMethods } from '../common/kinds.js';
import { aged } from './age.js';
import { damaged } from './damaged.js';
import { hasDocument, readDocument, writeDocument } from './document.js';
import { requireFile } from './regular-file.js';
import { replaceFile } from './replace-file.js';
import type { Persistent } from './saved.js';
import { fingerprintOf, recordIntact, recordRejected, setAside } from './set-aside.js';
import { slicesOf } from './slices.js';
import { yieldBetween } from './yield-between.js';

/** The last save of each path. The next save waits for it; otherwise an older snapshot could be written last. */
const saves = new Map<string, Promise<void>>();

/**
 * Saves the peers of a limiter to a file. The file is replaced completely or not at all, even if the process is killed:
 * the content is written to a temporary file in the same folder, synced to the disk and renamed. Saves of one path run
 * one after the other.
 *
 * A limiter with `snapshotSlices` is written in slices of a thousand peers. A slice takes about two milliseconds, or
 * about 20 with a garbage collection, and other work runs between two slices. Each peer is saved in its state at the
 * time of its slice.
 *
 * A new file is readable and writable only by its owner. An existing file keeps its permissions, and its owner if the
 * system allows that. If the path is a symbolic link, its target is written, even if it does not exist yet. The folder
 * must exist. If a file cannot be replaced, because it is a mount point or its folder is read-only, it is overwritten
 * in place; then too, a complete snapshot can be loaded at any moment.
 *
 * A file that is damaged, or that `loadSnapshot` has rejected for its limiter, is first copied to
 * `<path>.damaged-<time>`.
 *
 * Rejects with the system's error if the file cannot be written; the old file stays, and no temporary file is left.
 * Rejects with `ERR_LIMITER_OPTION` for a path that is no string or leads to a device, a FIFO or a socket, and for an
 * object that is no limiter. Rejects with the error of the snapshot, if that fails.
 * @example
 * import { mkdtemp, rm } from 'node:fs/promises';
 * import { tmpdir } from 'node:os';
 * import { join } from 'node:path';
 * import { OrderbookRateLimiter } from 'relay-limiter';
 * import { saveSnapshot } from 'relay-limiter/persist';
 *
 * const folder = await mkdtemp(join(tmpdir(), 'bans-'));
 * const limiter = new OrderbookRateLimiter();
 * limiter.ban('203.0.113.7', 600);
 * await saveSnapshot(limiter, join(folder, 'bans.json'));
 * await rm(folder, { recursive: true });
 */
export async function saveSnapshot(limiter: Persistent, path: string): Promise<void> {
  requirePersistent(limiter);
  const file = resolvePath(path);
  const slices = slicesOf(limiter);
  const previous = saves.get(file);
  const save = runAfter(previous, async () => {
    await setAside(file);
    await replaceFile(file, writeDocument(slices));
    recordIntact(file, await fingerprintOf(file));
  });
  saves.set(file, save);
  try {
    await save;
  } finally {
    if (saves.get(file) === save) saves.delete(file);
  }
}

/**
 * Loads a file of `saveSnapshot` into a limiter. Returns the number of restored peers: 0 if the file does not exist or
 * is empty, or if its first save was killed while it wrote an empty file in place, so a first start is no error; and 1
 * for a limiter that does not count them (`PolicyLimiter`).
 *
 * The wall-clock time since the save is taken into account: bans have less time left, buckets have refilled, and a peer
 * with an expired ban comes back without violations, as after a check. In a RuleLimiter the levels that lead to bans have
 * drained, and violations stay. If the wall clock went back, no time has passed; so a ban never lasts longer than its
 * duration.
 *
 * The file is read and restored in slices of a thousand peers, about three milliseconds each, or about 20 with a garbage
 * collection. On the TypeScript engine a slice takes longer if a `Map` grows in it: 0.2 seconds with a million peers.
 *
 * Rejects with `ERR_LIMITER_SNAPSHOT` for a file that is damaged, incomplete, no snapshot file, or of another kind of
 * limiter; with the system's error if the file cannot be read; with `ERR_LIMITER_OPTION` for a path that is no string
 * or leads to a device, a FIFO or a socket, and for an object that is no limiter. The limiter is unchanged then.
 * @example
 * import { mkdtemp, rm } from 'node:fs/promises';
 * import { tmpdir } from 'node:os';
 * import { join } from 'node:path';
 * import { OrderbookRateLimiter } from 'relay-limiter';
 * import { loadSnapshot, saveSnapshot } from 'relay-limiter/persist';
 *
 * const folder = await mkdtemp(join(tmpdir(), 'bans-'));
 * const file = join(folder, 'bans.json');
 * const before = new OrderbookRateLimiter();
 * before.ban('203.0.113.7', 600);
 * await saveSnapshot(before, file);
 *
 * const after = new OrderbookRateLimiter();
 * // Prints 1 and true.
 * console.log(await loadSnapshot(after, file), after.isBanned('203.0.113.7'));
 * await rm(folder, { recursive: true });
 */
export async function loadSnapshot(limiter: Persistent, path: string): Promise<number> {
  requirePersistent(limiter);
  const name = resolvePath(path);
  await saves.get(name)?.catch(() => {});
  const file = await openIfExists(name);
  if (file === undefined) return 0;
  try {
    const fingerprint = await fingerprintOf(name);
    const restored = await load(limiter, file, name);
    recordIntact(name, fingerprint);
    return restored;
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ERR_LIMITER_SNAPSHOT') recordRejected(name);
    throw error;
  }
}

async function load(limiter: Persistent, file: FileHandle, name: string): Promise<number> {
  const slices: object[] = [];
  try {
    if (!(await hasDocument(file))) return 0;
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
    for await (restored of yieldBetween(limiter.restoreSlices(slices)));
    return restored;
  }
  const [snapshot, ...others] = slices;
  if (snapshot === undefined || others.length > 0) {
    throw damaged(name, 'it has slices, but the limiter has no restoreSlices');
  }
  const restored = limiter.restore(snapshot);
  return typeof restored === 'number' ? restored : 1;
}

/** @throws `ERR_LIMITER_OPTION` unless the value can be saved and restored. */
export function requirePersistent(limiter: unknown): void {
  if (hasMethods(limiter, 'snapshot', 'restore')) return;
  const accepted = 'an object with the methods snapshot and restore';
  throw invalidValue('ERR_LIMITER_OPTION', 'the limiter', limiter, accepted);
}

/** Returns the absolute path. @throws `ERR_LIMITER_OPTION` unless `path` is a string that is not empty. */
export function resolvePath(path: unknown): string {
  if (typeof path === 'string' && path !== '') return resolve(path);
  throw invalidValue(
    'ERR_LIMITER_OPTION',
    'the path of a snapshot',
    path,
    'a string that is not empty',
  );
}

async function runAfter(
  previous: Promise<void> | undefined,
  act: () => Promise<void>,
): Promise<void> {
  // The caller of the previous save handles its error.
  await previous?.catch(() => {});
  return act();
}

async function openIfExists(file: string): Promise<FileHandle | undefined> {
  try {
    const stats = await stat(file);
    requireFile(stats, file);
    return stats.size === 0 ? undefined : await open(file, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
