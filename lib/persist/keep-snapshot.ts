// A limiter's file kept up to date: what a process that is killed has forgotten is no older than that.

import { callback, positive, readOptions } from '../common/options.js';
import { detached, LONGEST_TIMEOUT_MS, unref } from '../common/timers.js';
import type { Persistent } from './saved.js';
import { requirePersistent, resolvePath, saveSnapshot } from './snapshot-file.js';

export interface KeepOptions {
  /** Seconds from the end of one save to the beginning of the next, greater than 0. Default 60. */
  everySeconds?: number | undefined;
  /**
   * Told why a save failed; the next one comes all the same. Default: a process warning. The last save, of `stop`, rejects
   * instead. It is called in no async context of a caller's, as the saves are made.
   */
  onError?: ((error: unknown) => void) | undefined;
}

export interface SnapshotKeeper {
  /**
   * Ends it with one last save, once one under way is done. Rejects as `saveSnapshot` does. Called again,
   * it answers with the same promise.
   */
  stop(): Promise<void>;
}

/**
 * Saves a limiter to a file again and again, until `stop`: then a process that is killed forgets no more
 * than the last `everySeconds`. Never two saves at once. Its timer does not keep the process alive, so
 * call `stop` before the process ends.
 * @throws `ERR_LIMITER_OPTION`
 */
export function keepSnapshot(
  limiter: Persistent,
  path: string,
  options?: KeepOptions,
): SnapshotKeeper {
  const given = readOptions('keepSnapshot', options, ['everySeconds', 'onError']);
  const milliseconds = Math.min(positive(given, 'everySeconds', 60) * 1000, LONGEST_TIMEOUT_MS);
  const onError = callback<NonNullable<KeepOptions['onError']>>(given, 'onError') ?? warn;
  requirePersistent(limiter);
  const file = resolvePath(path);
  let timer: ReturnType<typeof setTimeout>;
  let stopped: Promise<void> | undefined;
  wait();
  return {
    stop() {
      clearTimeout(timer);
      // Saves of one path follow each other.
      stopped ??= saveSnapshot(limiter, file);
      return stopped;
    },
  };

  function wait() {
    timer = detached(() => setTimeout(save, milliseconds));
    unref(timer);
  }

  async function save() {
    try {
      await saveSnapshot(limiter, file);
    } catch (error) {
      onError(error);
    } finally {
      if (stopped === undefined) wait();
    }
  }
}

function warn(error: unknown): void {
  process.emitWarning(`a snapshot was not saved: ${error}`, { detail: 'relay-limiter/persist' });
}
