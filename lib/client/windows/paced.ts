// A quota window whose units are also sent evenly, apart from a burst: the window counts, a token bucket sets the pace.

import type { BucketWindow } from './bucket.js';
import type { QuotaWindow } from './quotas.js';

export class PacedWindow implements QuotaWindow {
  readonly #window: QuotaWindow;
  readonly #pace: BucketWindow;

  constructor(window: QuotaWindow, pace: BucketWindow) {
    this.#window = window;
    this.#pace = pace;
  }

  readyAt(cost: number, now: number): number {
    return Math.max(this.#window.readyAt(cost, now), this.#pace.readyAt(cost, now));
  }

  take(cost: number, now: number): void {
    this.#window.take(cost, now);
    this.#pace.take(cost, now);
  }

  refund(cost: number, at: number, now: number, kept?: number): void {
    this.#window.refund(cost, at, now, kept);
    this.#pace.refund(cost, at, now, kept);
  }

  /** The pace is not kept: it is short, and the window alone keeps to the quota. */
  save(now: number): number[] {
    return this.#window.save(now);
  }
}
