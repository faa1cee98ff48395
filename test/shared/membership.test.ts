// A limiter's part in a shared table, on a core of which the test decides what happens to its file.

import { afterEach, beforeEach, describe, expect, type MockInstance, test, vi } from 'vitest';
import type { SharedState } from '../../dist/engine/engine.js';
import { SharedMembership, Watcher } from '../../dist/limiters/shared-table.js';

const PATH = '/dev/shm/relay-limiter-0-chat';

class Core {
  state: SharedState = {
    path: PATH,
    createdAt: 1,
    attached: [{ pid: 7, since: 2 }],
    isDetached: false,
  };
  reads = 0;
  detachments = 0;

  sharedState(): SharedState {
    if (this.detachments > 0) throw new Error('the core was read after it was detached');
    this.reads += 1;
    return this.state;
  }
  detach(): void {
    this.detachments += 1;
  }
}

let warn: MockInstance;
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

describe('A membership in a shared table', () => {
  test('shows the state of the file, and after it has left the last one', () => {
    const core = new Core();
    const membership = new SharedMembership('chat', core, new Watcher());
    const shown = { name: 'chat', path: PATH, createdAt: 1 };
    const limiters = [{ pid: 7, since: 2 }];
    expect(membership.state()).toEqual({ ...shown, attached: 1, limiters, detached: false });
    core.state = { ...core.state, attached: [], isDetached: true };
    expect(membership.state()).toMatchObject({ attached: 0, detached: true });
    membership.leave();
    membership.leave();
    expect(core.detachments).toBe(1);
    const last = { ...shown, attached: 0, limiters: [], detached: true };
    expect(membership.state()).toEqual(last);
  });

  test('warns once, in the second in which its file is gone', () => {
    const core = new Core();
    const membership = new SharedMembership('chat', core, new Watcher());
    vi.advanceTimersByTime(5000);
    expect(core.reads).toBe(5);
    expect(warn).not.toHaveBeenCalled();
    core.state = { ...core.state, isDetached: true };
    vi.advanceTimersByTime(60_000);
    expect(warn).toHaveBeenCalledOnce();
    expect(warn.mock.calls[0]?.[0]).toContain(PATH);
    expect(warn.mock.calls[0]?.[1]).toEqual({ code: 'ERR_LIMITER_SHARED' });
    // Nothing else will happen to it.
    expect(core.reads).toBe(6);
    expect(vi.getTimerCount()).toBe(0);
    expect(membership.state().detached).toBe(true);
  });

  test('is watched by one timer with all others, which ends with the last of them', () => {
    const watcher = new Watcher();
    const cores = [new Core(), new Core()] as const;
    const [first, second] = cores.map((core) => new SharedMembership('chat', core, watcher));
    expect(vi.getTimerCount()).toBe(1);
    first?.leave();
    vi.advanceTimersByTime(1000);
    expect(vi.getTimerCount()).toBe(1);
    second?.leave();
    vi.advanceTimersByTime(1000);
    expect(vi.getTimerCount()).toBe(0);
    expect(warn).not.toHaveBeenCalled();
    const core = new Core();
    new SharedMembership('chat', core, watcher).leave();
    expect(vi.getTimerCount()).toBe(1);
  });
});
