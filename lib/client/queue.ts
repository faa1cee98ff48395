// The queue of requests that wait for quota: a higher priority first, first in first out within a priority,
// with ageing. It handles costs and times only; a QuotaSource says when a cost can be taken, and takes it.

import { limiterError } from '../common/errors.js';
import { detached } from '../common/timers.js';
import { type Cost, plus } from './cost.js';
import { type DeadlineError, deadlineError, onAbort, startTimer, type Timer } from './deadline.js';
import type { Lease } from './lease.js';
import { OrderedTree, type TreeItem } from './ordered-tree.js';

/** The owner of the quota that the queue hands out: a limiter, or a pool of them. */
export interface QuotaSource<T, R extends QueuedRequest = QueuedRequest> {
  /** Returns seconds of a monotonic clock. */
  now(): number;
  /**
   * Returns the seconds until `request` can be sent; 0 means now. Infinity means that only another event can
   * tell, after which `wake` is called. Throws if it can never be sent.
   */
  delay(now: number, request: R): number;
  /** Returns the seconds before which `cost`, of `request` and of all requests before it, cannot be sent. */
  backlogDelay(cost: Cost, now: number, request: R): number;
  /** Takes the quota. The queue calls it only after `delay` has returned 0. */
  take(now: number, request: R, outer: Lease | undefined): T;
  /** Whether `request` can be sent now without delaying `first`, which has to wait. By default it cannot. */
  fitsBefore?(now: number, request: R, first: R): boolean;
  /** Another limiter whose quota the request takes at the same moment. */
  outerOf?(request: R): OuterSource | undefined;
}

/** A limiter whose quota a request of another limiter takes too. */
export interface OuterSource {
  /** Takes the quota if that is possible now and no other request waits for it. */
  tryTake(): Lease | null;
  /** Waits for the quota. `deadlineSeconds` is what is left of the request's time. */
  acquire(deadlineSeconds: number, signal: AbortSignal): Promise<Lease>;
}

export interface QueueOptions {
  /** The maximum number of waiting requests. */
  readonly maxQueue: number;
  /** What happens to a request beyond `maxQueue`: it is rejected, or waits for a place in the queue. */
  readonly onFull: 'reject' | 'wait';
  /** Seconds of waiting that weigh as much as one step of priority. */
  readonly agingSeconds: number;
}

export interface QueuedRequest {
  readonly cost: Cost;
  readonly priority: number;
  readonly signal: AbortSignal | undefined;
  /** Seconds from the call; Infinity means no deadline. */
  readonly deadlineSeconds: number;
}

// A clock has steps (a quarter of a microsecond for epoch seconds), so a time may be rounded past a deadline.
// This tolerance serves a request that can be sent exactly at its deadline, whichever timer fires first.
const ROUNDING_SECONDS = 1e-6;

/** While the first request has to wait, this many behind it are examined whether they fit into what is left. */
const EXAMINED = 16;
/** Reports of a server may delay the first request by this much until none is served before it any more. */
const MOST_DELAY_SECONDS = 1;

interface Waiter<T, R extends QueuedRequest> extends TreeItem {
  readonly request: R;
  /** The position in the order. It never changes: all waiters age at the same pace. */
  readonly rank: number;
  readonly number: number;
  readonly deadlineAt: number;
  /** The earliest time that the source has given; Infinity before the waiter is the first. */
  expectedAt: number;
  /** The tree that the waiter is in: the queue, or those that wait for a place in it; none once it is settled. */
  place: OrderedTree<Waiter<T, R>> | undefined;
  /** Ends the wait for the quota of the outer limiter; undefined if it does not wait for that. */
  outerWait: AbortController | undefined;
  timer: Timer | undefined;
  removeAbortCallback(): void;
  resolve(taken: T): void;
  reject(reason: unknown): void;
}

export class WaitQueue<T, R extends QueuedRequest = QueuedRequest> {
  readonly #source: QuotaSource<T, R>;
  readonly #options: QueueOptions;
  readonly #waiters = new OrderedTree<Waiter<T, R>>(isBefore);
  /** Those that wait for a place in the queue, in the order of their calls. */
  readonly #outside = new OrderedTree<Waiter<T, R>>((a, b) => a.number < b.number);
  #timer: Timer | undefined;
  #nextNumber = 0;
  #onPlace: (() => void)[] = [];

  constructor(source: QuotaSource<T, R>, options: QueueOptions) {
    this.#source = source;
    this.#options = options;
  }

  /** The number of waiting requests. */
  get size(): number {
    return this.#waiters.size + this.#outside.size;
  }

  /**
   * Takes the cost at once if no request waits and the quota allows it, else waits. Rejects with the signal's
   * reason, `ERR_LIMITER_DEADLINE` or `ERR_LIMITER_QUEUE`; then nothing is spent. `onWait` is called if it waits.
   */
  enqueue(request: R, onWait = () => {}): Promise<T> {
    const { cost, priority, signal, deadlineSeconds } = request;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) throw signal.reason;
      const now = this.#source.now();
      if (this.size === 0 && this.#source.delay(now, request) === 0) {
        const outer = this.#source.outerOf?.(request)?.tryTake();
        if (outer !== null) {
          resolve(this.#source.take(now, request, outer));
          return;
        }
      }
      if (this.#serveFitting() && this.#takeIfFitting(request, resolve)) return;
      const isFull = this.#waiters.size >= this.#options.maxQueue;
      if (isFull && this.#options.onFull === 'reject') throw queueFull(this.#options.maxQueue);
      const settle = () => {
        clearTimeout(waiter.timer);
        waiter.removeAbortCallback();
      };
      const waiter: Waiter<T, R> = {
        cost,
        request,
        rank: now - priority * this.#options.agingSeconds,
        number: this.#nextNumber++,
        deadlineAt: now + deadlineSeconds + ROUNDING_SECONDS,
        expectedAt: Infinity,
        place: undefined,
        outerWait: undefined,
        timer: undefined,
        removeAbortCallback: () => {},
        resolve: (taken) => {
          settle();
          resolve(taken);
        },
        reject: (reason) => {
          settle();
          waiter.outerWait?.abort();
          reject(reason);
        },
      };
      const place = isFull ? this.#outside : this.#waiters;
      if (deadlineSeconds < Infinity) {
        const delay = this.#earliestDelay(waiter, place, now);
        if (delay < Infinity && now + delay > waiter.deadlineAt) throw deadlineMissed(delay);
        this.#startDeadlineTimer(waiter, deadlineSeconds);
      }
      waiter.place = place;
      place.add(waiter);
      waiter.removeAbortCallback = onAbort(signal, () => this.#drop(waiter, signal?.reason));
      if (this.#waiters.first === waiter) this.wake();
      if (waiter.place !== undefined) onWait();
    });
  }

  /** Serves the requests that can be sent now. Must be called whenever a delay may have changed. */
  wake(): void {
    clearTimeout(this.#timer);
    for (let first = this.#waiters.first; first !== undefined; first = this.#waiters.first) {
      if (first.outerWait !== undefined) return;
      if (!this.#serve(first)) {
        this.#serveFitting();
        return;
      }
    }
  }

  /** Resolves when the queue has a free place; at once if it has one. */
  whenPlace(): Promise<void> {
    if (this.#waiters.size < this.#options.maxQueue) return Promise.resolve();
    return new Promise((resolve) => void this.#onPlace.push(resolve));
  }

  /** Rejects all waiting requests. */
  rejectAll(createError: () => Error): void {
    clearTimeout(this.#timer);
    for (const place of [this.#outside, this.#waiters]) {
      for (let first = place.first; first !== undefined; first = place.first) {
        this.#delete(first);
        first.reject(createError());
      }
    }
  }

  /** Serves or rejects the first waiter. Returns false if it has to wait. */
  #serve(first: Waiter<T, R>): boolean {
    try {
      const { request } = first;
      const now = this.#source.now();
      const delay = this.#source.delay(now, request);
      if (delay === Infinity) return false;
      if (delay > 0) {
        if (now + delay > first.deadlineAt) throw deadlineMissed(delay);
        first.expectedAt = Math.min(first.expectedAt, now + delay);
        // Detached, because the timer serves all waiters, not only the caller in whose context it is made.
        this.#timer = detached(() => startTimer(delay, () => this.wake()));
        return false;
      }
      const outer = this.#source.outerOf?.(request);
      const lease = outer?.tryTake();
      if (outer !== undefined && lease === null) {
        void this.#waitForOuter(first, outer, now);
        return false;
      }
      this.#resolve(first, this.#source.take(now, request, lease ?? undefined));
    } catch (error) {
      this.#delete(first);
      first.reject(error);
    }
    return true;
  }

  /**
   * Serves requests behind the first one that fit into what is left until it can be sent, and do not delay it. Returns
   * whether a further one may fit.
   */
  #serveFitting(): boolean {
    const isWaiting = () => this.#waiters.first?.outerWait === undefined;
    if (this.#source.fitsBefore === undefined || this.#waiters.size === 0) return false;
    for (const waiter of this.#waiters.firstItems(EXAMINED)) {
      if (!isWaiting()) return false;
      if (waiter === this.#waiters.first || waiter.place !== this.#waiters) continue;
      this.#takeIfFitting(waiter.request, (taken) => this.#resolve(waiter, taken));
    }
    return isWaiting();
  }

  /** Takes the quota of `request` if that does not delay the first waiter. */
  #takeIfFitting(request: R, resolve: (taken: T) => void): boolean {
    const first = this.#waiters.first as Waiter<T, R>;
    const now = this.#source.now();
    if (!this.#source.fitsBefore?.(now, request, first.request)) return false;
    const expectedAt = now + this.#source.delay(now, first.request);
    if (expectedAt > first.expectedAt + MOST_DELAY_SECONDS) return false;
    const outer = this.#source.outerOf?.(request)?.tryTake();
    if (outer === null) return false;
    resolve(this.#source.take(now, request, outer));
    return true;
  }

  /**
   * Waits for the outer limiter, and then takes both quotas at the same moment. If this limiter is not ready by
   * then, the outer quota is given back at once, and the request waits on.
   */
  async #waitForOuter(waiter: Waiter<T, R>, outer: OuterSource, now: number): Promise<void> {
    waiter.outerWait = new AbortController();
    const { signal } = waiter.outerWait;
    const seconds = Math.max(0, waiter.deadlineAt - ROUNDING_SECONDS - now);
    try {
      const lease = await outer.acquire(seconds, signal);
      waiter.outerWait = undefined;
      if (waiter.place === undefined) {
        lease.refund();
        return;
      }
      try {
        const at = this.#source.now();
        if (this.#source.delay(at, waiter.request) === 0) {
          this.#resolve(waiter, this.#source.take(at, waiter.request, lease));
        } else {
          lease.refund();
        }
      } catch (error) {
        lease.refund();
        throw error;
      }
      this.wake();
    } catch (error) {
      waiter.outerWait = undefined;
      this.#drop(waiter, error);
    }
  }

  #resolve(waiter: Waiter<T, R>, taken: T): void {
    this.#delete(waiter);
    waiter.resolve(taken);
  }

  #delete(waiter: Waiter<T, R>): void {
    waiter.place?.delete(waiter);
    waiter.place = undefined;
    const { maxQueue } = this.#options;
    const next = this.#outside.first;
    if (next !== undefined && this.#waiters.size < maxQueue) {
      this.#outside.delete(next);
      next.place = this.#waiters;
      this.#waiters.add(next);
    }
    if (this.#onPlace.length === 0 || this.#waiters.size >= maxQueue) return;
    for (const resolve of this.#onPlace.splice(0)) resolve();
  }

  #drop(waiter: Waiter<T, R>, reason: unknown): void {
    if (waiter.place === undefined) return;
    const { first } = this.#waiters;
    this.#delete(waiter);
    waiter.reject(reason);
    // Also if the first one is another now that has got the waiter's place.
    if (this.#waiters.first !== first) this.wake();
  }

  #startDeadlineTimer(waiter: Waiter<T, R>, seconds: number): void {
    waiter.timer = startTimer(seconds, () => {
      try {
        const now = this.#source.now();
        if (now < waiter.deadlineAt) this.#startDeadlineTimer(waiter, waiter.deadlineAt - now);
        else throw deadlineMissed(this.#earliestDelay(waiter, waiter.place, now));
      } catch (error) {
        this.#drop(waiter, error);
      }
    });
  }

  /** Returns the shortest possible delay in seconds, behind all waiters that are served before this one. O(log n). */
  #earliestDelay(waiter: Waiter<T, R>, place = this.#waiters, now: number): number {
    let cost = plus(place.costBefore(waiter), waiter.cost);
    if (place === this.#outside) cost = plus(cost, this.#waiters.total);
    return this.#source.backlogDelay(cost, now, waiter.request);
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
