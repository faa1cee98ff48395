// The queue of requests that wait for quota: a higher priority first, first in first out within a priority,
// with ageing. It handles costs and times only; a QuotaSource says when a cost can be taken, and takes it.

import { limiterError } from '../common/errors.js';
import { detached } from '../common/timers.js';
import { type DeadlineError, deadlineError, onAbort, startTimer, type Timer } from './deadline.js';
import { Heap, type HeapItem } from './heap.js';

/** The owner of the quota that the queue hands out: a limiter, or a pool of them. */
export interface QuotaSource<T, R extends QueuedRequest = QueuedRequest> {
  /** Returns seconds of a monotonic clock. */
  now(): number;
  /**
   * Returns the seconds until `cost` can be taken; 0 means now. `cost` is that of `request`, or of it and all
   * requests before it.
   */
  delay(cost: number, now: number, request: R): number;
  /** Takes `cost`. The queue calls it only after `delay` has returned 0. */
  take(cost: number, now: number, request: R): T;
}

export interface QueueOptions {
  /** The maximum number of waiting requests. */
  readonly maxQueue: number;
  /** Seconds of waiting that weigh as much as one step of priority. */
  readonly agingSeconds: number;
}

export interface QueuedRequest {
  readonly cost: number;
  readonly priority: number;
  readonly signal: AbortSignal | undefined;
  /** Seconds from the call; Infinity means no deadline. */
  readonly deadlineSeconds: number;
}

// A clock has steps (a quarter of a microsecond for epoch seconds), so a time may be rounded past a deadline.
// This tolerance serves a request that can be sent exactly at its deadline, whichever timer fires first.
const ROUNDING_SECONDS = 1e-6;

interface Waiter<T, R extends QueuedRequest> extends HeapItem {
  readonly request: R;
  /** The position in the order. It never changes: all waiters age at the same pace. */
  readonly rank: number;
  readonly number: number;
  readonly deadlineAt: number;
  timer: Timer | undefined;
  removeAbortCallback(): void;
  resolve(taken: T): void;
  reject(reason: unknown): void;
}

export class WaitQueue<T, R extends QueuedRequest = QueuedRequest> {
  readonly #source: QuotaSource<T, R>;
  readonly #options: QueueOptions;
  readonly #waiters = new Heap<Waiter<T, R>>(isBefore);
  #timer: Timer | undefined;
  #nextNumber = 0;
  /** The total cost of all waiters. */
  #totalCost = 0;
  /** An upper bound of the ranks of all waiters. */
  #maxRank = -Infinity;

  constructor(source: QuotaSource<T, R>, options: QueueOptions) {
    this.#source = source;
    this.#options = options;
  }

  /** The number of waiting requests. */
  get size(): number {
    return this.#waiters.size;
  }

  /**
   * Takes the cost at once if no request waits and the quota allows it, else waits. Rejects with the signal's
   * reason, `ERR_LIMITER_DEADLINE` or `ERR_LIMITER_QUEUE`; then nothing is spent.
   */
  enqueue(request: R): Promise<T> {
    const { cost, priority, signal, deadlineSeconds } = request;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) throw signal.reason;
      const now = this.#source.now();
      if (this.size === 0 && this.#source.delay(cost, now, request) === 0) {
        resolve(this.#source.take(cost, now, request));
        return;
      }
      if (this.size >= this.#options.maxQueue) throw queueFull(this.#options.maxQueue);
      const settle = () => {
        clearTimeout(waiter.timer);
        waiter.removeAbortCallback();
      };
      const waiter: Waiter<T, R> = {
        heapIndex: -1,
        request,
        rank: now - priority * this.#options.agingSeconds,
        number: this.#nextNumber++,
        deadlineAt: now + deadlineSeconds + ROUNDING_SECONDS,
        timer: undefined,
        removeAbortCallback: () => {},
        resolve: (taken) => {
          settle();
          resolve(taken);
        },
        reject: (reason) => {
          settle();
          reject(reason);
        },
      };
      if (deadlineSeconds < Infinity) {
        if (!this.#certainlyMeetsDeadline(waiter, now)) {
          const delay = this.#earliestDelay(waiter, now);
          if (now + delay > waiter.deadlineAt) throw deadlineMissed(delay);
        }
        this.#startDeadlineTimer(waiter, deadlineSeconds);
      }
      this.#add(waiter);
      waiter.removeAbortCallback = onAbort(signal, () => this.#drop(waiter, signal?.reason));
      if (this.#waiters.first === waiter) this.wake();
    });
  }

  /** Serves the requests that can be sent now. Must be called whenever a delay may have changed. */
  wake(): void {
    clearTimeout(this.#timer);
    for (let first = this.#waiters.first; first !== undefined; first = this.#waiters.first) {
      try {
        const now = this.#source.now();
        const delay = this.#source.delay(first.request.cost, now, first.request);
        if (delay > 0 && now + delay <= first.deadlineAt) {
          // Detached, because the timer serves all waiters, not only the caller in whose context it is made.
          this.#timer = detached(() => startTimer(delay, () => this.wake()));
          return;
        }
        if (delay > 0) throw deadlineMissed(delay);
        const taken = this.#source.take(first.request.cost, now, first.request);
        this.#delete(first);
        first.resolve(taken);
      } catch (error) {
        this.#delete(first);
        first.reject(error);
      }
    }
  }

  #add(waiter: Waiter<T, R>): void {
    this.#totalCost += waiter.request.cost;
    this.#maxRank = Math.max(this.#maxRank, waiter.rank);
    this.#waiters.add(waiter);
  }

  #delete(waiter: Waiter<T, R>): void {
    this.#waiters.delete(waiter);
    this.#totalCost -= waiter.request.cost;
    if (this.size > 0) return;
    this.#totalCost = 0;
    this.#maxRank = -Infinity;
  }

  #drop(waiter: Waiter<T, R>, reason: unknown): void {
    const wasFirst = this.#waiters.first === waiter;
    this.#delete(waiter);
    waiter.reject(reason);
    if (wasFirst) this.wake();
  }

  #startDeadlineTimer(waiter: Waiter<T, R>, seconds: number): void {
    waiter.timer = startTimer(seconds, () => {
      try {
        const now = this.#source.now();
        if (now < waiter.deadlineAt) this.#startDeadlineTimer(waiter, waiter.deadlineAt - now);
        else throw deadlineMissed(this.#earliestDelay(waiter, now));
      } catch (error) {
        this.#drop(waiter, error);
      }
    });
  }

  /** Whether the waiter meets its deadline even if all others are served first. A cheap test, O(1). */
  #certainlyMeetsDeadline({ request, deadlineAt }: Waiter<T, R>, now: number): boolean {
    return now + this.#source.delay(this.#totalCost + request.cost, now, request) <= deadlineAt;
  }

  /** Returns the shortest possible delay in seconds, behind all waiters that are served before this one. */
  #earliestDelay(waiter: Waiter<T, R>, now: number): number {
    let { cost } = waiter.request;
    // Most new waiters are the last in the order; then all others are before them, and no loop is needed.
    if (waiter.heapIndex < 0 && waiter.rank >= this.#maxRank) {
      return this.#source.delay(this.#totalCost + cost, now, waiter.request);
    }
    for (const other of this.#waiters) {
      if (isBefore(other, waiter)) cost += other.request.cost;
    }
    return this.#source.delay(cost, now, waiter.request);
  }
}

function isBefore<T, R extends QueuedRequest>(a: Waiter<T, R>, b: Waiter<T, R>): boolean {
  return a.rank === b.rank ? a.number < b.number : a.rank < b.rank;
}

function deadlineMissed(retryAfterSeconds: number): DeadlineError {
  const earliest = `it could be sent in ${retryAfterSeconds.toFixed(3)} seconds at the earliest`;
  const message = `the request cannot be sent before its deadline; ${earliest}`;
  return deadlineError(message, retryAfterSeconds);
}

function queueFull(maxQueue: number): Error {
  const message = `the queue is full: maxQueue allows ${maxQueue} waiting requests`;
  return limiterError(Error, 'ERR_LIMITER_QUEUE', message);
}
