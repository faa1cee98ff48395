// Background cleanup. One timer serves all limiters of the process: it runs short slices, one at a time, for the limiters
// that are due, so a thousand limiters block the event loop no longer than one does. Limiters are weakly referenced: a
// limiter without other references is garbage-collected, and its cleanup ends.

import type { CleanupRounds } from '../common/options.js';
import { detached, LONGEST_TIMEOUT_MS, unref } from '../common/timers.js';
import type { LimiterCore } from '../engine/engine.js';

/** The part of a limiter that a cleanup needs. */
interface CleanableLimiter {
  readonly core: Pick<LimiterCore, 'cleanup' | 'isCleaning'>;
  now(): number | undefined;
}

/**
 * The length of a slice in milliseconds. The engine reads the time between two of its steps, and the last step may
 * exceed the slice: together they stay below a millisecond, unless V8's garbage collection runs during the slice.
 */
const SLICE_MS = 0.5;
/**
 * Milliseconds between two slices, of one limiter or of two: all cleanups together take a thirtieth of the processor's
 * time.
 */
const PAUSE_MS = 15;

/** Scheduler runs the slices of all cleanups. Its timer runs only if there is a limiter to clean up. */
export class Scheduler {
  /** In the order of their turns: the cleanup that has waited longest comes first. */
  readonly #cleanups = new Set<BackgroundCleanup>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The time at which the timer fires, in milliseconds of `performance.now()`; Infinity without a timer. */
  #firesAt = Infinity;

  add(cleanup: BackgroundCleanup): void {
    this.#cleanups.add(cleanup);
    this.#fireAt(Math.min(cleanup.dueAt, this.#firesAt));
  }

  delete(cleanup: BackgroundCleanup): void {
    this.#cleanups.delete(cleanup);
    if (this.#cleanups.size === 0) this.#cancelTimer();
  }

  #fire(): void {
    this.#cancelTimer();
    try {
      this.#runDue(performance.now() + SLICE_MS);
    } finally {
      let next = Infinity;
      for (const { dueAt } of this.#cleanups) next = Math.min(next, dueAt);
      if (next < Infinity) this.#fireAt(Math.max(next, performance.now() + PAUSE_MS));
    }
  }

  /** Runs one slice until `deadline`. All due cleanups share it: a round of few peers takes only a part of it. */
  #runDue(deadline: number): void {
    let now = performance.now();
    for (const cleanup of [...this.#cleanups]) {
      // A timer may fire a moment early, and the clock of one limiter, which is user code, may close another limiter.
      if (cleanup.dueAt > now || !this.#cleanups.delete(cleanup)) continue;
      this.#cleanups.add(cleanup);
      cleanup.slice(deadline - now);
      now = performance.now();
      if (now >= deadline) return;
    }
  }

  #fireAt(time: number): void {
    this.#cancelTimer();
    this.#firesAt = time;
    const milliseconds = Math.min(Math.ceil(time - performance.now()), LONGEST_TIMEOUT_MS);
    this.#timer = detached(() => setTimeout(() => this.#fire(), milliseconds));
    unref(this.#timer);
  }

  #cancelTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#firesAt = Infinity;
  }
}

/** The scheduler of this process. */
export const scheduler = new Scheduler();

/**
 * Stops the cleanup of a limiter that was garbage-collected. Without it the cleanup would end with its next slice, which
 * may be 24 days away.
 */
const collectedLimiters = new FinalizationRegistry<BackgroundCleanup>((cleanup) => cleanup.stop());

/** BackgroundCleanup is the cleanup of one limiter: a round every `everySeconds`, in as many slices as it needs. */
export class BackgroundCleanup {
  readonly #limiter: WeakRef<CleanableLimiter>;
  readonly #maxAge: number;
  readonly #everyMs: number;
  #dueAt: number;
  /** The time at which the present round began, in milliseconds; undefined between two rounds. */
  #roundBeganAt: number | undefined;

  constructor(limiter: CleanableLimiter, { maxAgeSeconds, everySeconds }: CleanupRounds) {
    this.#limiter = new WeakRef(limiter);
    this.#maxAge = maxAgeSeconds;
    this.#everyMs = Math.min(Math.max(everySeconds * 1000, PAUSE_MS), LONGEST_TIMEOUT_MS);
    this.#dueAt = performance.now() + this.#everyMs;
    scheduler.add(this);
    collectedLimiters.register(limiter, this);
  }

  /** The time at which the next slice is due, in milliseconds of `performance.now()`. */
  get dueAt(): number {
    return this.#dueAt;
  }

  stop(): void {
    scheduler.delete(this);
  }

  /** Cleans up for `budgetMs` milliseconds. @throws the errors of the limiter's clock; the next round is due anyway. */
  slice(budgetMs: number): void {
    const limiter = this.#limiter.deref();
    if (limiter === undefined) {
      this.stop();
      return;
    }
    this.#roundBeganAt ??= performance.now();
    let hasMore = false;
    try {
      limiter.core.cleanup(this.#maxAge, budgetMs, limiter.now());
      hasMore = limiter.core.isCleaning();
    } finally {
      this.#dueAt = performance.now() + PAUSE_MS;
      if (!hasMore) {
        this.#dueAt = Math.max(this.#dueAt, this.#roundBeganAt + this.#everyMs);
        this.#roundBeganAt = undefined;
      }
    }
  }
}
