// Deadlines of calls that all have the same timeout. One linked list and one timer serve all calls, because a timer per
// call would cost as much as the rest of the call. A finished call leaves the list at once: an object that is kept for
// a tenth of a second outlives the young generation of the garbage collector, which then copies it.

import { LONGEST_TIMEOUT_MS } from '../../common/timers.js';
import { timeoutError } from './replies.js';
import { nowSeconds, startTimer, type Timer } from './timing.js';

/** An operation that either ends or expires, whichever comes first. */
export abstract class Pending {
  /** Seconds, by `performance.now()`. */
  readonly startedAt = nowSeconds();
  #isDone = false;
  /** The previous operation of the list. @internal */
  before: Pending | undefined;
  /** The next operation of the list. @internal */
  after: Pending | undefined;

  get isDone(): boolean {
    return this.#isDone;
  }

  /** Ends the operation. False if it has ended or expired before. */
  end(): boolean {
    if (this.#isDone) return false;
    this.#isDone = true;
    if (this.before !== undefined) this.before.after = this.after;
    if (this.after !== undefined) this.after.before = this.before;
    this.before = undefined;
    this.after = undefined;
    return true;
  }

  /**
   * Called once if the deadline passes first. `wasBlocked`: whether this process has been busy for a good part of that
   * time, so that the store may have answered, or may not even have got the call.
   */
  abstract expire(wasBlocked: boolean): void;
}

/** A reply that is awaited. `onTimeout` gets an `ERR_LIMITER_STORE` if the deadline passes first. */
export class PendingReply extends Pending {
  readonly #onTimeout: (error: Error, wasBlocked: boolean) => void;

  constructor(onTimeout: (error: Error, wasBlocked: boolean) => void) {
    super();
    this.#onTimeout = onTimeout;
  }

  override expire(wasBlocked: boolean): void {
    this.#onTimeout(timeoutError(), wasBlocked);
  }
}

/** Either end of the list. */
class Sentinel extends Pending {
  override expire(): void {}
}

/** If a timer fires so much later than it should, as a share of the deadline, the process was blocked. */
const BLOCKED_SHARE = 0.25;

/** The deadlines of all operations that have the same number of seconds. */
export class Deadlines {
  readonly #seconds: number;
  readonly #first = new Sentinel();
  readonly #last = new Sentinel();
  #timer: Timer | undefined;
  /** When the timer should fire. */
  #dueAt = 0;

  constructor(seconds: number) {
    this.#seconds = seconds;
    this.#first.after = this.#last;
    this.#last.before = this.#first;
  }

  /** Gives an operation its deadline, counted from its `startedAt`. */
  add(pending: Pending): void {
    const before = this.#last.before as Pending;
    before.after = pending;
    pending.before = before;
    pending.after = this.#last;
    this.#last.before = pending;
    if (this.#timer === undefined) this.#arm();
  }

  /** Stops the timer if nothing is pending. Operations that are still pending keep their deadlines. */
  close(): void {
    if (this.#first.after !== this.#last) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Starts the timer for the first of the list. `add` calls this too while #expireDue runs. */
  #arm(): void {
    const seconds = this.#secondsLeft(this.#first.after as Pending);
    this.#dueAt = nowSeconds() + Math.max(0, seconds);
    const milliseconds = Math.min(Math.max(0, Math.ceil(seconds * 1000)), LONGEST_TIMEOUT_MS);
    // After a pause of the process its timers fire before it has read replies that have arrived: setImmediate lets it
    // read them first.
    this.#timer = startTimer(() => setImmediate(() => this.#expireDue()), milliseconds);
  }

  #expireDue(): void {
    this.#timer = undefined;
    const wasBlocked = nowSeconds() - this.#dueAt > this.#seconds * BLOCKED_SHARE;
    for (;;) {
      const next = this.#first.after as Pending;
      if (next === this.#last) return;
      if (this.#secondsLeft(next) > 0) break;
      if (next.end()) next.expire(wasBlocked);
    }
    if (this.#timer === undefined) this.#arm();
  }

  #secondsLeft({ startedAt }: Pending): number {
    return startedAt + this.#seconds - nowSeconds();
  }
}
