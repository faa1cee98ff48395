// Deadlines, the timers that end them, and the error that says so.

import { limiterError } from '../common/errors.js';
import { LONGEST_TIMEOUT_MS } from '../common/timers.js';
import { onAbort } from './abort.js';

/** The error for a deadline that cannot be met, or has passed. */
export type DeadlineError = Error & {
  readonly code: 'ERR_LIMITER_DEADLINE';
  /** Seconds after which it could have gone, as far as that can be told now; perhaps later. */
  readonly retryAfterSeconds: number;
};

export function deadlineError(message: string, retryAfterSeconds: number): DeadlineError {
  const code = 'ERR_LIMITER_DEADLINE';
  return Object.assign(limiterError(Error, code, message), { code, retryAfterSeconds } as const);
}

export type Timer = ReturnType<typeof setTimeout>;

/** Calls `then` after so many seconds, or after 24.8 days if that is earlier: `then` has to look. */
export function timer(seconds: number, then: () => void): Timer {
  return setTimeout(then, Math.min(Math.ceil(seconds * 1000), LONGEST_TIMEOUT_MS));
}

/** The time that one call has. */
export class Deadline {
  readonly #seconds: number;
  readonly #at: number;
  #isOver = false;

  constructor(seconds: number) {
    this.#seconds = seconds;
    this.#at = performance.now() + seconds * 1000;
  }

  /** Seconds. */
  get left(): number {
    return Math.max(0, this.#at - performance.now()) / 1000;
  }

  /** Whether there is as much left as has gone. */
  get isHalfLeft(): boolean {
    return this.left >= this.#seconds / 2;
  }

  /** Whether something was aborted for it. */
  get isOver(): boolean {
    return this.#isOver;
  }

  throwIfPassed(): void {
    if (this.left === 0) throw noResponse();
  }

  /**
   * Calls `send` with a signal that aborts with `signal`, also while the body of the response is read, and
   * when there is no time left.
   */
  async guard(
    signal: AbortSignal | undefined,
    send: (signal: AbortSignal | undefined) => Promise<Response>,
  ): Promise<Response> {
    if (this.#at === Infinity) return send(signal);
    const controller = new AbortController();
    const unfollow = follow(controller, signal);
    const look = () => {
      if (this.left > 0) {
        end = timer(this.left, look);
        return;
      }
      this.#isOver = true;
      controller.abort(noResponse());
    };
    let end = timer(this.left, look);
    try {
      const response = await send(controller.signal);
      if (response.body === null) unfollow();
      else unread.register(response.body, unfollow);
      return response;
    } catch (error) {
      unfollow();
      throw error;
    } finally {
      clearTimeout(end);
    }
  }
}

// When nobody can read a body any more, nobody needs to end that.
const unread = new FinalizationRegistry<() => void>((unfollow) => unfollow());

/** Aborts with `signal`, until what it returns is called. */
function follow(controller: AbortController, signal: AbortSignal | undefined): () => void {
  if (signal?.aborted) controller.abort(signal.reason);
  return onAbort(signal, () => controller.abort(signal?.reason));
}

function noResponse(): DeadlineError {
  return deadlineError('no response came before the deadline', 0);
}
