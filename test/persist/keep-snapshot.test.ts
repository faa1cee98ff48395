// keepSnapshot, with fake timers and real files.

import { existsSync, mkdirSync } from 'node:fs';
import { type KeepOptions, keepSnapshot, loadSnapshot } from 'relay-limiter/persist';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { codeOfRejection, Notebook, testFolder } from './support.js';

const folder = testFolder();

/** Counts its snapshots; a snapshot contains the count. */
class Counter extends Notebook {
  count = 0;

  override snapshot(): object {
    this.count += 1;
    return { count: this.count };
  }
}

async function savedCount(): Promise<unknown> {
  const loaded = new Notebook();
  await loadSnapshot(loaded, folder.file());
  return (loaded.restored as { count?: number } | undefined)?.count;
}

/** Waits until `done` returns true. Files are written meanwhile, but no fake timer fires. */
async function until(done: () => boolean): Promise<void> {
  while (!done()) await new Promise((resolve) => setImmediate(resolve));
}

describe('keepSnapshot', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  const timerIsSet = () => vi.getTimerCount() === 1;

  test('saves periodically and a last time on stop', async () => {
    const counter = new Counter();
    const keeper = keepSnapshot(counter, folder.file(), { everySeconds: 5 });
    vi.advanceTimersByTime(4_999);
    expect(counter.count).toBe(0);
    for (let n = 1; n <= 3; n += 1) {
      vi.advanceTimersByTime(n === 1 ? 1 : 5_000);
      expect(counter.count).toBe(n);
      // The timer of the next save starts when this save is done.
      expect(vi.getTimerCount()).toBe(0);
      await until(timerIsSet);
      expect(await savedCount()).toBe(n);
    }
    const stopped = keeper.stop();
    expect(keeper.stop()).toBe(stopped);
    await stopped;
    expect(await savedCount()).toBe(4);
    vi.advanceTimersByTime(1e6);
    expect(counter.count).toBe(4);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('saves a last time if it is stopped during a save', async () => {
    const counter = new Counter();
    const keeper = keepSnapshot(counter, folder.file());
    vi.advanceTimersByTime(60_000);
    await keeper.stop();
    expect(await savedCount()).toBe(2);
    await until(() => true);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('calls onError for a failed save and saves again', async () => {
    const file = folder.file('later/bans.json');
    const codes: unknown[] = [];
    const onError = (error: unknown) => codes.push((error as { code: unknown }).code);
    const keeper = keepSnapshot(new Counter(), file, { everySeconds: 1, onError });
    vi.advanceTimersByTime(1000);
    await until(timerIsSet);
    expect(codes).toEqual(['ENOENT']);
    mkdirSync(folder.file('later'));
    vi.advanceTimersByTime(1000);
    await until(timerIsSet);
    expect(codes).toEqual(['ENOENT']);
    expect(existsSync(file)).toBe(true);
    await keeper.stop();
  });

  test('rejects stop if the last save fails', async () => {
    const keeper = keepSnapshot(new Counter(), folder.file('missing/bans.json'));
    expect(await codeOfRejection(keeper.stop())).toBe('ENOENT');
  });

  test('rejects invalid options', () => {
    const wrong = [null, { everySeconds: 0 }, { everySeconds: '1' }, { onError: 5 }, { every: 1 }];
    for (const options of wrong) {
      const keep = () => keepSnapshot(new Counter(), folder.file(), options as KeepOptions);
      expect(codeOf(keep)).toBe('ERR_LIMITER_OPTION');
    }
    expect(codeOf(() => keepSnapshot(new Counter(), ''))).toBe('ERR_LIMITER_OPTION');
    expect(vi.getTimerCount()).toBe(0);
  });
});
