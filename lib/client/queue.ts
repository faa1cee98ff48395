// Those who wait for quota: first in, first out within a priority, the higher first, with ageing. It
// knows costs and times, and asks its host when a cost may go and to take it.

import { limiterError } from '../common/errors.js';
import { detached } from '../common/timers.js';
import { onAbort } from './abort.js';
import { type DeadlineError, deadlineError, type Timer, timer } from './deadline.js';
import { Heap, type HeapItem } from './heap.js';

/** Where the quota comes from. */
export interface QueueHost<T, R extends Request = Request> {
  /** Seconds of a monotonic clock. */
  now(): number;
  /** Seconds until `cost` may go, that of `request` or of it and all before it; 0: now. */
  delay(cost: number, now: number, request: R): number;
  /** Takes it; called only when the delay is 0. */
  take(cost: number, now: number, request: R): T;
}

export interface QueueOptions {
  /** Most that wait at once. */
  readonly maxQueue: number;
  /** Seconds of waiting that weigh as much as one step of priority. */
  readonly agingSeconds: number;
}

export interface Request {
  readonly cost: number;
  readonly priority: number;
  readonly signal: AbortSignal | undefined;
  /** Seconds from now; Infinity: none. */
  readonly deadlineSeconds: number;
}

// A deadline may be missed by the steps of a clock (a quarter of a microsecond, for epoch seconds). So who
// may go at that very moment goes, whichever timer fires first.
const ROUNDING_SECONDS = 1e-6;

interface Waiter<T, R extends Request> extends HeapItem {
  readonly request: R;
  /** Ageing at one pace leaves the order as it is, so it is known from the beginning. */
  readonly rank: number;
  readonly number: number;
  readonly deadlineAt: number;
  timer: Timer | undefined;
  /** Does not leave when the signal aborts. */
  stay(): void;
  resolve(taken: T): void;
  reject(reason: unknown): void;
}

export class WaitQueue<T, R extends Request = Request> {
  readonly #host: QueueHost<T, R>;
  readonly #options: QueueOptions;
  readonly #waiters = new Heap<Waiter<T, R>>(isBefore);
  #timer: Timer | undefined;
  #number = 0;
  /** Of all that wait: their cost, and a rank that none exceeds. */
  #cost = 0;
  #lastRank = -Infinity;

  constructor(host: QueueHost<T, R>, options: QueueOptions) {
    this.#host = host;
    this.#options = options;
  }

  /** How many wait. */
  get size(): number {
    return this.#waiters.size;
  }

  /**
   * Takes the cost at once where nobody waits and it may go, else waits for its turn. Rejects with the
   * signal's reason, `ERR_LIMITER_DEADLINE` or `ERR_LIMITER_QUEUE`; nothing is spent then.
   */
  enter(request: R): Promise<T> {
    const { cost, priority, signal, deadlineSeconds } = request;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) throw signal.reason;
      const now = this.#host.now();
      if (this.size === 0 && this.#host.delay(cost, now, request) === 0) {
        resolve(this.#host.take(cost, now, request));
        return;
      }
      if (this.size >= this.#options.maxQueue) throw queueFull(this.#options.maxQueue);
      const settled = () => {
        clearTimeout(waiter.timer);
        waiter.stay();
      };
      const waiter: Waiter<T, R> = {
        place: -1,
        request,
        rank: now - priority * this.#options.agingSeconds,
        number: this.#number++,
        deadlineAt: now + deadlineSeconds + ROUNDING_SECONDS,
        timer: undefined,
        stay: () => {},
        resolve: (taken) => {
          settled();
          resolve(taken);
        },
        reject: (reason) => {
          settled();
          reject(reason);
        },
      };
      if (deadlineSeconds < Infinity) {
        if (!this.#isSurelyInTime(waiter, now)) {
          const earliest = this.#earliest(waiter, now);
          if (now + earliest > waiter.deadlineAt) throw tooLate(earliest);
        }
        this.#watch(waiter, deadlineSeconds);
      }
      this.#add(waiter);
      waiter.stay = onAbort(signal, () => this.#drop(waiter, signal?.reason));
      if (this.#waiters.first === waiter) this.wake();
    });
  }

  /** To be called when a delay may have changed: serves those whose turn has come. */
  wake(): void {
    clearTimeout(this.#timer);
    for (let first = this.#waiters.first; first !== undefined; first = this.#waiters.first) {
      try {
        const now = this.#host.now();
        const delay = this.#host.delay(first.request.cost, now, first.request);
        if (delay > 0 && now + delay <= first.deadlineAt) {
          // For all that wait, not for whoever came first.
          this.#timer = detached(() => timer(delay, () => this.wake()));
          return;
        }
        if (delay > 0) throw tooLate(delay);
        const taken = this.#host.take(first.request.cost, now, first.request);
        this.#delete(first);
        first.resolve(taken);
      } catch (error) {
        this.#delete(first);
        first.reject(error);
      }
    }
  }

  #add(waiter: Waiter<T, R>): void {
    this.#cost += waiter.request.cost;
    this.#lastRank = Math.max(this.#lastRank, waiter.rank);
    this.#waiters.add(waiter);
  }

  #delete(waiter: Waiter<T, R>): void {
    this.#waiters.delete(waiter);
    this.#cost -= waiter.request.cost;
    if (this.size > 0) return;
    this.#cost = 0;
    this.#lastRank = -Infinity;
  }

  #drop(waiter: Waiter<T, R>, reason: unknown): void {
    const wasFirst = this.#waiters.first === waiter;
    this.#delete(waiter);
    waiter.reject(reason);
    if (wasFirst) this.wake();
  }

  #watch(waiter: Waiter<T, R>, seconds: number): void {
    waiter.timer = timer(seconds, () => {
      try {
        const now = this.#host.now();
        if (now < waiter.deadlineAt) this.#watch(waiter, waiter.deadlineAt - now);
        else throw tooLate(this.#earliest(waiter, now));
      } catch (error) {
        this.#drop(waiter, error);
      }
    });
  }

  /** Whether it would be even if all others went first, which is quickly told. */
  #isSurelyInTime({ request, deadlineAt }: Waiter<T, R>, now: number): boolean {
    return now + this.#host.delay(this.#cost + request.cost, now, request) <= deadlineAt;
  }

  /** Seconds before which it cannot go, behind those who go first. */
  #earliest(waiter: Waiter<T, R>, now: number): number {
    let { cost } = waiter.request;
    // Most are the last ones.
    if (waiter.place < 0 && waiter.rank >= this.#lastRank) {
      return this.#host.delay(this.#cost + cost, now, waiter.request);
    }
    for (const other of this.#waiters) {
      if (isBefore(other, waiter)) cost += other.request.cost;
    }
    return this.#host.delay(cost, now, waiter.request);
  }
}

function isBefore<T, R extends Request>(a: Waiter<T, R>, b: Waiter<T, R>): boolean {
  return a.rank === b.rank ? a.number < b.number : a.rank < b.rank;
}

function tooLate(retryAfterSeconds: number): DeadlineError {
  const when = `it could in ${retryAfterSeconds.toFixed(3)} seconds at the earliest`;
  const message = `the request cannot be sent before its deadline; ${when}`;
  return deadlineError(message, retryAfterSeconds);
}

function queueFull(maxQueue: number): Error {
  const message = `${maxQueue} requests wait for quota already; maxQueue allows no more`;
  return limiterError(Error, 'ERR_LIMITER_QUEUE', message);
}
