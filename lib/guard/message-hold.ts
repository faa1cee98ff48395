// The message of a connection that waits for a bucket: its place in the bucket's queue, and the timer until its next check.

import { captureContext } from '../common/timers.js';
import type { Classification } from '../rules/types.js';
import type { Bucket, BucketWaiter } from './bucket-queue.js';
import type { Progress } from './message-gate.js';

/** A message that waits: for the answer of a limiter, or for a bucket. */
export interface WaitingMessage<Data, Meta> {
  readonly data: Data;
  readonly meta: Meta;
  readonly message: Classification | undefined;
}

/** A message that waits for a bucket. */
export interface HeldMessage<Data, Meta> extends WaitingMessage<Data, Meta> {
  /** Where its next check begins: at the rule that refused it. */
  readonly progress: Progress;
  readonly bucket: Bucket;
  /** The key in verdicts. */
  readonly key: string;
}

const inAnyContext = (act: () => void) => act();

export class MessageHold<Data, Meta> implements BucketWaiter {
  readonly #ended: () => void;
  readonly #changed: () => void;
  #held: HeldMessage<Data, Meta> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isFirst = false;
  /** The async context of the message, not that of the connection before it in the queue, nor of who changes the limiter. */
  #inContext = inAnyContext;

  /**
   * `ended` is called when the time is over, or when the message has become the first of its queue. `changed` is called if the
   * message is the first and its limiter has changed, so that it may be allowed at another time.
   */
  constructor(ended: () => void, changed: () => void) {
    this.#ended = ended;
    this.#changed = changed;
  }

  /** The message; undefined if none is held. */
  get held(): HeldMessage<Data, Meta> | undefined {
    return this.#held;
  }

  /** Whether the message is the first of the queue for its bucket, and so may be checked. */
  get isFirst(): boolean {
    return this.#isFirst;
  }

  /** Whether the message that is held waits for this bucket. */
  waitsFor({ queues, rule, key }: Bucket): boolean {
    const bucket = this.#held?.bucket;
    return bucket?.queues === queues && bucket.rule === rule && bucket.key === key;
  }

  /** Holds a message. `secondsOf` says for how long, given whether it is the first of its queue. */
  hold(held: HeldMessage<Data, Meta>, secondsOf: (isFirst: boolean) => number): void {
    const { queues, rule, key } = held.bucket;
    if (!this.waitsFor(held.bucket)) this.release();
    this.#held = held;
    this.#isFirst = queues.join(rule, key, this);
    this.#inContext = captureContext();
    this.restart(secondsOf(this.#isFirst));
  }

  /** Starts the time again. */
  restart(seconds: number): void {
    clearTimeout(this.#timer);
    // Rounded up and one more millisecond, since a timer may fire a fraction early: a second refusal would be a second
    // violation.
    this.#timer = setTimeout(() => this.#end(), Math.ceil(seconds * 1000) + 1);
  }

  /** Leaves the queue, so that the next connection need not wait for this one. The message stays. */
  leaveQueue(): void {
    this.#stopTimer();
    this.#isFirst = false;
    if (this.#held === undefined) return;
    const { queues, rule, key } = this.#held.bucket;
    queues.leave(rule, key, this);
  }

  release(): void {
    this.leaveQueue();
    this.#held = undefined;
    this.#inContext = inAnyContext;
  }

  /** Called by the queue for the bucket. */
  becomeFirst(): void {
    if (this.#isFirst) return;
    this.#isFirst = true;
    this.#inContext(() => this.#end());
  }

  /** Called by the queue for the bucket. */
  limiterChanged(): void {
    if (this.#isFirst && this.#timer !== undefined) this.#inContext(this.#changed);
  }

  #end(): void {
    this.#stopTimer();
    this.#ended();
  }

  #stopTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
