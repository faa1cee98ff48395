// What a limiter is doing: the leases that have not ended, and whether it accepts new calls. Unlike OpenLeases it
// counts strictly: a lease that is never ended counts for ever.

import { limiterError } from '../common/errors.js';

export class Activity {
  readonly #maxConcurrent: number;
  readonly #countWaiting: () => number;
  readonly #onIdle: () => void;
  #running = 0;
  #isClosed = false;
  /** Whether anything has happened since the limiter was idle last. */
  #isBusy = false;
  #idleCallbacks: (() => void)[] = [];

  constructor(maxConcurrent: number, countWaiting: () => number, onIdle: () => void) {
    this.#maxConcurrent = maxConcurrent;
    this.#countWaiting = countWaiting;
    this.#onIdle = onIdle;
  }

  /** The number of open leases. */
  get running(): number {
    return this.#running;
  }

  get hasPlace(): boolean {
    return this.hasPlaces(1);
  }

  hasPlaces(count: number): boolean {
    return this.#running + count <= this.#maxConcurrent;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Whether no lease is open and no call waits. */
  get isIdle(): boolean {
    return this.#running === 0 && this.#countWaiting() === 0;
  }

  /** Records that a lease begins. */
  begin(): void {
    this.#running += 1;
    this.#isBusy = true;
  }

  /** Records that a call waits. */
  wait(): void {
    this.#isBusy = true;
  }

  end(): void {
    this.#running -= 1;
  }

  /** Must be called whenever a lease has ended or a call has left the queue. */
  check(): void {
    if (!this.#isBusy || !this.isIdle) return;
    this.#isBusy = false;
    for (const callback of this.#idleCallbacks.splice(0)) callback();
    this.#onIdle();
  }

  whenIdle(): Promise<void> {
    if (this.isIdle) return Promise.resolve();
    return new Promise((resolve) => void this.#idleCallbacks.push(resolve));
  }

  close(): void {
    this.#isClosed = true;
  }

  /** Accepts no new calls, and resolves when nothing waits or runs. */
  drain(): Promise<void> {
    this.close();
    return this.whenIdle();
  }
}

export function closedError(): Error {
  return limiterError(Error, 'ERR_LIMITER_CLOSED', 'the limiter has been closed');
}
