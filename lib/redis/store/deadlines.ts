// Deadlines of calls that all have the same time: a list and one timer, since a timer for each call would
// cost as much as the rest of it. Who has ended leaves the list at once: what is kept for a tenth of a
// second outlives the young generation of the garbage collector, which then copies it.

import { detached, LONGEST_TIMEOUT_MS } from '../../timers.js';

/** Something that ends, or has its time run out; whichever comes first. */
export abstract class Pending {
  /** Seconds, by `performance.now()`. */
  readonly startedAt = performance.now() / 1000;
  #isDone = false;
  /** Neighbours in the list. @internal */
  before: Pending | undefined;
  /** @internal */
  after: Pending | undefined;

  get isDone(): boolean {
    return this.#isDone;
  }

  /** It ends now; false if it had ended, or run out of time. */
  end(): boolean {
    if (this.#isDone) return false;
    this.#isDone = true;
    if (this.before !== undefined) this.before.after = this.after;
    if (this.after !== undefined) this.after.before = this.before;
    this.before = undefined;
    this.after = undefined;
    return true;
  }

  /** Its time has run out. */
  abstract expire(): void;
}

/** Both ends of the list. */
class Ends extends Pending {
  override expire(): void {}
}

export class Deadlines {
  readonly #seconds: number;
  readonly #first = new Ends();
  readonly #last = new Ends();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(seconds: number) {
    this.#seconds = seconds;
    this.#first.after = this.#last;
    this.#last.before = this.#first;
  }

  /** Gives it its time, counted from when it was made. */
  add(pending: Pending): void {
    const before = this.#last.before as Pending;
    before.after = pending;
    pending.before = before;
    pending.after = this.#last;
    this.#last.before = pending;
    if (this.#timer === undefined) this.#arm();
  }

  /** Nothing more comes. What is still in the list keeps its time. */
  close(): void {
    if (this.#first.after !== this.#last) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** For the first in the list, also where something is added while others run out of time. */
  #arm(): void {
    const seconds = this.#left(this.#first.after as Pending);
    // A process that stood still finds its timers due before it has read the answers that are there.
    const milliseconds = Math.min(Math.max(0, Math.ceil(seconds * 1000)), LONGEST_TIMEOUT_MS);
    this.#timer = detached(() => {
      return setTimeout(() => setImmediate(() => this.#look()), milliseconds);
    });
    this.#timer.unref?.();
  }

  #look(): void {
    this.#timer = undefined;
    for (;;) {
      const next = this.#first.after as Pending;
      if (next === this.#last) return;
      if (this.#left(next) > 0) break;
      if (next.end()) next.expire();
    }
    if (this.#timer === undefined) this.#arm();
  }

  #left({ startedAt }: Pending): number {
    return startedAt + this.#seconds - performance.now() / 1000;
  }
}
