// VirtualTime: time that passes only in `run`, for simulations of many nodes. It replaces timers, setImmediate,
// `performance.now()` and `Date.now()`. Vitest's fake timers are not used because they wait for a real timer after each fake one.

import { vi } from 'vitest';

interface Timer {
  at: number;
  order: number;
  run: () => void;
}

const realSetImmediate = setImmediate;

export class VirtualTime {
  /** The time, in seconds. */
  now = 1000;
  /** Seconds for which the machine has slept: the wall clock counts them, the monotonic clock does not. */
  pausedSeconds = 0;
  #timers: Timer[] = [];
  #orders = 0;

  /** Replaces real time until `vi.unstubAllGlobals` and `vi.restoreAllMocks`. */
  install(): void {
    vi.spyOn(performance, 'now').mockImplementation(() => this.now * 1000);
    vi.spyOn(Date, 'now').mockImplementation(() => (this.now + this.pausedSeconds) * 1000);
    vi.stubGlobal('setTimeout', (run: () => void, ms = 0) => this.after(ms / 1000, run));
    vi.stubGlobal('setImmediate', (run: () => void) => this.after(0, run));
    vi.stubGlobal('clearTimeout', (timer: Timer | undefined) => this.#clear(timer));
  }

  after(seconds: number, run: () => void): Timer & { unref(): void } {
    this.#orders += 1;
    const timer = { at: this.now + seconds, order: this.#orders, run, unref() {} };
    let index = this.#timers.length;
    while (index > 0 && isBefore(timer, this.#timers[index - 1] as Timer)) index -= 1;
    this.#timers.splice(index, 0, timer);
    return timer;
  }

  /** Lets `seconds` pass, and fires the timers that are due. */
  async run(seconds: number): Promise<void> {
    const end = this.now + seconds;
    await new Promise((resolve) => realSetImmediate(resolve));
    for (let next = this.#timers[0]; next !== undefined && next.at <= end; next = this.#timers[0]) {
      this.#timers.shift();
      this.now = Math.max(this.now, next.at);
      next.run();
      // Lets all promises settle that the timer has affected.
      await new Promise((resolve) => realSetImmediate(resolve));
    }
    this.now = end;
  }

  #clear(timer: Timer | undefined): void {
    const index = timer === undefined ? -1 : this.#timers.indexOf(timer);
    if (index >= 0) this.#timers.splice(index, 1);
  }
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
