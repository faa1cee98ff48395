// Cleanup in the background. One timer serves all limiters of the process: it gives short slices, one at a time,
// to the limiters that are due, so a thousand of them hold the event loop up no longer than one does. A limiter is
// held weakly: one that nobody else holds is collected, and leaves. Knows no engine.

import type { CleanupRounds } from '../common/options.js';
import { detached, LONGEST_TIMEOUT_MS, unref } from '../common/timers.js';
import type { LimiterCore } from '../engine/engine.js';

/** The limiter as a round sees it. */
interface Cleaned {
  readonly core: LimiterCore;
  now(): number | undefined;
}

/**
 * What a slice may take, in milliseconds; the engine looks at the time between its own steps. The rest of
 * a millisecond is for the step it is at. V8's garbage collection may fall into a slice, and takes what it takes.
 */
const SLICE_MS = 0.5;
/** Milliseconds between two slices, of one limiter or of two: together they take a thirtieth of the processor's time. */
const PAUSE_MS = 15;

/** Gives out the slices. Its timer runs only while there is a limiter to clean up. */
export class Scheduler {
  /** The next one to be served first. */
  readonly #cleanups = new Set<BackgroundCleanup>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the timer rings, in milliseconds of `performance.now()`; Infinity without one. */
  #ringsAt = Infinity;

  add(cleanup: BackgroundCleanup): void {
    this.#cleanups.add(cleanup);
    this.#ringAt(Math.min(cleanup.dueAt, this.#ringsAt));
  }

  delete(cleanup: BackgroundCleanup): void {
    this.#cleanups.delete(cleanup);
    if (this.#cleanups.size === 0) this.#silence();
  }

  #ring(): void {
    this.#silence();
    try {
      this.#serve(performance.now() + SLICE_MS);
    } finally {
      let next = Infinity;
      for (const { dueAt } of this.#cleanups) next = Math.min(next, dueAt);
      if (next < Infinity) this.#ringAt(Math.max(next, performance.now() + PAUSE_MS));
    }
  }

  /** One slice until `deadline`, shared by as many as are due: a round of few peers takes little of it. */
  #serve(deadline: number): void {
    let now = performance.now();
    for (const cleanup of [...this.#cleanups]) {
      // A timer may ring a moment early, and what one limiter's clock does may close another one.
      if (cleanup.dueAt > now || !this.#cleanups.delete(cleanup)) continue;
      this.#cleanups.add(cleanup);
      cleanup.slice(deadline - now);
      now = performance.now();
      if (now >= deadline) return;
    }
  }

  #ringAt(time: number): void {
    this.#silence();
    this.#ringsAt = time;
    const milliseconds = Math.min(Math.ceil(time - performance.now()), LONGEST_TIMEOUT_MS);
    this.#timer = detached(() => setTimeout(() => this.#ring(), milliseconds));
    unref(this.#timer);
  }

  #silence(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#ringsAt = Infinity;
  }
}

/** That of the process. */
export const scheduler = new Scheduler();

/** A limiter that was collected must not be waited for: its next round may be 24 days away. */
const collected = new FinalizationRegistry<BackgroundCleanup>((cleanup) => cleanup.stop());

/** The cleanup of one limiter: a round every so many seconds, and as many slices as a round needs. */
export class BackgroundCleanup {
  readonly #limiter: WeakRef<Cleaned>;
  readonly #maxAge: number;
  readonly #everyMs: number;
  #dueAt: number;
  /** When the round that is under way began. */
  #beganAt: number | undefined;

  constructor(limiter: Cleaned, { maxAgeSeconds, everySeconds }: CleanupRounds) {
    this.#limiter = new WeakRef(limiter);
    this.#maxAge = maxAgeSeconds;
    this.#everyMs = Math.min(Math.max(everySeconds * 1000, PAUSE_MS), LONGEST_TIMEOUT_MS);
    this.#dueAt = performance.now() + this.#everyMs;
    scheduler.add(this);
    collected.register(limiter, this);
  }

  /** When the next slice is due, in milliseconds of `performance.now()`. */
  get dueAt(): number {
    return this.#dueAt;
  }

  stop(): void {
    scheduler.delete(this);
  }

  /** Cleans up for so many milliseconds. @throws what the limiter's clock throws; the next round comes all the same. */
  slice(budgetMs: number): void {
    const limiter = this.#limiter.deref();
    if (limiter === undefined) {
      this.stop();
      return;
    }
    this.#beganAt ??= performance.now();
    let isUnderway = false;
    try {
      limiter.core.cleanup(this.#maxAge, budgetMs, limiter.now());
      isUnderway = limiter.core.isCleaning();
    } finally {
      this.#dueAt = performance.now() + PAUSE_MS;
      if (!isUnderway) {
        this.#dueAt = Math.max(this.#dueAt, this.#beganAt + this.#everyMs);
        this.#beganAt = undefined;
      }
    }
  }
}
