// Deadlines and abort signals: the timers and listeners that end a wait, and the error of a missed deadline.

import { limiterError } from '../common/errors.js';
import { LONGEST_TIMEOUT_MS } from '../common/timers.js';

/** The error for a deadline that has passed or cannot be met. */
export type DeadlineError = Error & {
  readonly code: 'ERR_LIMITER_DEADLINE';
  /**
   * Seconds until the request could have been sent, by what is known at the time of the error; it may turn
   * out to be longer.
   */
  readonly retryAfterSeconds: number;
};

export function deadlineError(message: string, retryAfterSeconds: number): DeadlineError {
  const code = 'ERR_LIMITER_DEADLINE';
  return Object.assign(limiterError(Error, code, message), { code, retryAfterSeconds } as const);
}

export type Timer = ReturnType<typeof setTimeout>;

/**
 * Calls `callback` after `seconds`, or after 24.8 days if that is earlier, which is the longest time that one
 * timer can wait. So `callback` must check the time.
 */
export function startTimer(seconds: number, callback: () => void): Timer {
  return setTimeout(callback, Math.min(Math.ceil(seconds * 1000), LONGEST_TIMEOUT_MS));
}

/** The callbacks for each signal, so that a signal has one listener only. */
const abortCallbacks = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls `callback` when `signal` aborts. Returns a function that cancels this. Nothing but one listener
 * remains on the signal. AbortSignal.any would not do: some versions of Node keep memory for each call, and
 * warn of a leak if a signal has many listeners.
 */
export function onAbort(signal: AbortSignal | undefined, callback: () => void): () => void {
  if (signal === undefined) return () => {};
  const callbacks = abortCallbacks.get(signal) ?? listen(signal);
  callbacks.add(callback);
  return () => {
    callbacks.delete(callback);
  };
}

function listen(signal: AbortSignal): Set<() => void> {
  const callbacks = new Set<() => void>();
  abortCallbacks.set(signal, callbacks);
  const callAll = () => callbacks.forEach((callback) => void callback());
  signal.addEventListener('abort', callAll, { once: true });
  return callbacks;
}

type Send = (signal: AbortSignal | undefined) => Promise<Response>;

/** The time limit of one call. */
export class Deadline {
  readonly #seconds: number;
  readonly #atMs: number;
  #hasAborted = false;

  constructor(seconds: number) {
    this.#seconds = seconds;
    // Most calls have no deadline, and reading the clock would be a large part of their cost.
    this.#atMs = seconds === Infinity ? Infinity : performance.now() + seconds * 1000;
  }

  /** Seconds left, at least 0. */
  get secondsLeft(): number {
    if (this.#atMs === Infinity) return Infinity;
    return Math.max(0, this.#atMs - performance.now()) / 1000;
  }

  /** Whether at least half of the time is left. */
  get isHalfLeft(): boolean {
    return this.secondsLeft >= this.#seconds / 2;
  }

  /** Whether this deadline has aborted a request. */
  get hasAborted(): boolean {
    return this.#hasAborted;
  }

  throwIfPassed(): void {
    if (this.secondsLeft === 0) throw noResponse();
  }

  /**
   * Calls `send` with a signal that aborts at the deadline, or when `signal` aborts. The deadline ends with
   * the response; `signal` also aborts the reading of its body.
   */
  guard(signal: AbortSignal | undefined, send: Send): Promise<Response> {
    return this.#atMs === Infinity ? send(signal) : this.#abortInTime(signal, send);
  }

  async #abortInTime(signal: AbortSignal | undefined, send: Send): Promise<Response> {
    const controller = new AbortController();
    const unfollow = follow(controller, signal);
    const checkTime = () => {
      if (this.secondsLeft > 0) {
        timer = startTimer(this.secondsLeft, checkTime);
        return;
      }
      this.#hasAborted = true;
      controller.abort(noResponse());
    };
    let timer = startTimer(this.secondsLeft, checkTime);
    try {
      const response = await send(controller.signal);
      // Some implementations of fetch have no streams: they return a response when all of it has arrived.
      const { body } = response as { body?: object | null };
      if (body === null || body === undefined) unfollow();
      else openBodies.register(body, unfollow);
      return response;
    } catch (error) {
      unfollow();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

// Once a body is garbage collected, its reading cannot be aborted, so its callback is removed.
const openBodies = new FinalizationRegistry<() => void>((unfollow) => unfollow());

/** Aborts `controller` when `signal` aborts. Returns a function that cancels this. */
function follow(controller: AbortController, signal: AbortSignal | undefined): () => void {
  return onAbort(signal, () => controller.abort(signal?.reason));
}

function noResponse(): DeadlineError {
  return deadlineError('no response came before the deadline', 0);
}
