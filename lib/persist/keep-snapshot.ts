// Saves a limiter to a file periodically, so that a killed process loses only the changes since the last save.

import { callback, positive, readOptions } from '../common/options.js';
import { detached, LONGEST_TIMEOUT_MS, unref } from '../common/timers.js';
import type { Persistent } from './saved.js';
import { requirePersistent, resolvePath, saveSnapshot } from './snapshot-file.js';

/** The options of `keepSnapshot`. */
export interface KeepOptions {
  /** Seconds from the end of one save to the start of the next, greater than 0. Default 60. */
  everySeconds?: number | undefined;
  /**
   * Called with the error of a failed save; the periodic saves continue. Default: a process warning. An error of the
   * last save rejects the promise of `stop` instead. Saves and this function run outside the async context of the
   * caller of `keepSnapshot`.
   */
  onError?: ((error: unknown) => void) | undefined;
}

/** Stops the saves of `keepSnapshot`. */
export interface SnapshotKeeper {
  /**
   * Stops the periodic saves, waits for a running save, and saves a last time. Rejects as `saveSnapshot` does. Further
   * calls return the same promise.
   */
  stop(): Promise<void>;
}

/**
 * Saves a limiter to a file every `everySeconds` until `stop` is called. A killed process loses at most the changes
 * since the last save. Two saves never overlap. The timer does not keep the process alive, so call `stop` before the
 * process exits.
 * @throws `ERR_LIMITER_OPTION` for an invalid option, an empty path, or an object that is no limiter.
 * @example
 * import { mkdtemp, rm } from 'node:fs/promises';
 * import { tmpdir } from 'node:os';
 * import { join } from 'node:path';
 * import { OrderbookRateLimiter } from 'relay-limiter';
 * import { keepSnapshot, loadSnapshot } from 'relay-limiter/persist';
 *
 * const folder = await mkdtemp(join(tmpdir(), 'bans-'));
 * const file = join(folder, 'bans.json');
 * const limiter = new OrderbookRateLimiter();
 * await loadSnapshot(limiter, file);
 * const keeper = keepSnapshot(limiter, file, { everySeconds: 30 });
 *
 * limiter.ban('203.0.113.7', 600);
 * // On shutdown, for example on SIGTERM:
 * await keeper.stop();
 * await rm(folder, { recursive: true });
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
      // saveSnapshot runs the saves of one path one after the other, so this waits for a running save.
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
