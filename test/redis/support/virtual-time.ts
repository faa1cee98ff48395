// Time that passes only when it is told to: timers, `performance.now()`, and turns of the event loop, for
// simulations of many nodes. Vitest's own waits for a real timer after each fake one.

import { vi } from 'vitest';

interface Timer {
  at: number;
  order: number;
  run: () => void;
}

const turn = setImmediate;

export class VirtualTime {
  /** Seconds. */
  now = 1000;
  #timers: Timer[] = [];
  #orders = 0;

  /** Takes the place of the real one until `vi.unstubAllGlobals` and `vi.restoreAllMocks`. */
  install(): void {
    vi.spyOn(performance, 'now').mockImplementation(() => this.now * 1000);
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

  async run(seconds: number): Promise<void> {
    const end = this.now + seconds;
    await new Promise((resolve) => turn(resolve));
    for (let next = this.#timers[0]; next !== undefined && next.at <= end; next = this.#timers[0]) {
      this.#timers.shift();
      this.now = Math.max(this.now, next.at);
      next.run();
      // All that follows from it, promise by promise.
      await new Promise((resolve) => turn(resolve));
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
