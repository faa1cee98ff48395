// What a limiter is doing: the calls that wait, the leases that have not ended, and whether it accepts new calls. Unlike
// OpenLeases it counts strictly: a lease that is never ended counts for ever.

import { limiterError } from '../common/errors.js';

/** What an activity needs of a `WaitQueue`. */
interface Waiters {
  readonly size: number;
  rejectAll(createError: () => Error): void;
}

export class Activity {
  readonly #maxConcurrent: number;
  readonly #waiters: Waiters;
  readonly #onIdle: () => void;
  #running = 0;
  #isClosed = false;
  /** Whether anything has happened since the limiter was idle last. */
  #isBusy = false;
  #idleCallbacks: (() => void)[] = [];

  constructor(waiters: Waiters, maxConcurrent = Infinity, onIdle = () => {}) {
    this.#waiters = waiters;
    this.#maxConcurrent = maxConcurrent;
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
    return this.#running === 0 && this.#waiters.size === 0;
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

  /** Accepts no new calls, and rejects those that wait. */
  close(): void {
    this.#isClosed = true;
    this.#waiters.rejectAll(closedError);
  }

  /** Accepts no new calls, and resolves when nothing waits or runs. */
  drain(): Promise<void> {
    this.#isClosed = true;
    return this.whenIdle();
  }
}

export function closedError(): Error {
  return limiterError(Error, 'ERR_LIMITER_CLOSED', 'the limiter has been closed');
}
