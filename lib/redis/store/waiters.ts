// What waits until an attempt to reach the store has succeeded or failed.

import { nowSeconds } from './timing.js';

/** For how long ready() tolerates attempts without any reply. */
const READY_SECONDS = 2;

export interface Waiter {
  resolve(): void;
  reject(error: Error): void;
}

/** Waiters for the next attempt. Each is called once, in the order in which they were added. */
export class Waiters {
  #waiters: Waiter[] = [];
  #closeError: Error | undefined;

  add(waiter: Waiter): void {
    if (this.#closeError === undefined) this.#waiters.push(waiter);
    else waiter.reject(this.#closeError);
  }

  resolveAll(): void {
    for (const waiter of this.#waiters.splice(0)) waiter.resolve();
  }

  rejectAll(error: Error): void {
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
  }

  /** Rejects all waiters, those that are added later too. */
  close(error: Error): void {
    this.#closeError = error;
    this.rejectAll(error);
  }

  /**
   * Resolves once `isReady` returns true. Rejects with the last failure: at once if the store itself reported an error
   * (the failure has a cause), otherwise after two seconds without a reply.
   */
  async untilReady(isReady: () => boolean): Promise<void> {
    const giveUpAt = nowSeconds() + READY_SECONDS;
    while (!isReady()) {
      try {
        await new Promise<void>((resolve, reject) => this.add({ resolve, reject }));
      } catch (error) {
        const isReported = (error as Error).cause !== undefined;
        if (isReported || error === this.#closeError || nowSeconds() > giveUpAt) throw error;
      }
    }
  }
}
