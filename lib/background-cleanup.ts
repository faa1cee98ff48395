// Cleanup in the background: rounds of short slices from one timer. It holds its limiter weakly, so that
// a limiter nobody else holds is collected, and the timer ends with it. Knows no engine.

import type { LimiterCore } from './engine/engine.js';
import type { CleanupRounds } from './options.js';
import { LONGEST_TIMEOUT_MS, unref } from './timers.js';

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
/** Between two slices everybody else has their turn: a round takes a thirtieth of the processor's time. */
const PAUSE_MS = 15;

/** Or the timer of a collected limiter would be kept until the next round: up to 24 days. */
const collected = new FinalizationRegistry<BackgroundCleanup>((cleanup) => cleanup.stop());

export class BackgroundCleanup {
  readonly #limiter: WeakRef<Cleaned>;
  readonly #maxAge: number;
  readonly #everyMs: number;
  /** The pauses since the round began. */
  #pausedMs = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(limiter: Cleaned, { maxAgeSeconds, everySeconds }: CleanupRounds) {
    this.#limiter = new WeakRef(limiter);
    this.#maxAge = maxAgeSeconds;
    this.#everyMs = Math.min(Math.max(everySeconds * 1000, PAUSE_MS), LONGEST_TIMEOUT_MS);
    this.#wait(this.#everyMs);
    collected.register(limiter, this);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #wait(milliseconds: number): void {
    this.#timer = setTimeout(() => this.#tick(), milliseconds);
    unref(this.#timer);
  }

  #tick(): void {
    const limiter = this.#limiter.deref();
    if (limiter === undefined) return;
    const timer = this.#timer;
    let underway = false;
    try {
      underway = this.#slice(limiter);
    } finally {
      // Unless the caller's clock has closed the limiter.
      if (this.#timer === timer) this.#next(underway);
    }
  }

  /** Whether the round has more to do. */
  #slice(limiter: Cleaned): boolean {
    limiter.core.cleanup(this.#maxAge, SLICE_MS, limiter.now());
    return limiter.core.isCleaning();
  }

  #next(underway: boolean): void {
    if (underway) {
      this.#pausedMs += PAUSE_MS;
      this.#wait(PAUSE_MS);
    } else {
      const rest = this.#everyMs - this.#pausedMs;
      this.#pausedMs = 0;
      this.#wait(Math.max(rest, PAUSE_MS));
    }
  }
}
