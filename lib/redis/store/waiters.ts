// What waits until an attempt to reach the store has succeeded or failed.

import { messageOf, storeError, timeoutError } from './replies.js';
import { startTimer, type Timer } from './timing.js';

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
   * (the failure has a cause), otherwise after two seconds without a reply, whether an attempt has failed until then or its
   * call still waits in the client. `lastError`: the client's last error, which is why nothing is answered.
   */
  async untilReady(isReady: () => boolean, lastError: () => unknown): Promise<void> {
    let last = timeoutError();
    let timer: Timer | undefined;
    const giveUp = new Promise<never>((_, reject) => {
      timer = startTimer(() => reject(withReason(last, lastError())), READY_SECONDS * 1000);
    });
    try {
      while (!isReady()) {
        const attempt = new Promise<void>((resolve, reject) => this.add({ resolve, reject }));
        await Promise.race([attempt, giveUp]).catch((error) => {
          const isReported = (error as Error).cause !== undefined;
          if (isReported || error === this.#closeError || error === last) throw error;
          last = error as Error;
        });
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

function withReason(error: Error, reason: unknown): Error {
  if (reason === undefined) return error;
  return storeError(`no reply, and the client's last error is: ${messageOf(reason)}`, reason);
}
