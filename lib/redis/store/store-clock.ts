// What scripts are told of times, in the store's: until when a call may be carried out, and what a gap
// means for buckets, a time when the store was away. Knows no store.

import { fullSeconds, type Limit } from './limit-scripts.js';

/** A call that waits for longer than its deadline and so much more is not carried out. */
export const LATE_SECONDS = 1;

export class StoreTimes {
  readonly #limit: Limit;
  readonly #deadlineSeconds: number;
  /** The store's time less ours. */
  #offset = 0;
  #text = '';
  #textUntil = 0;

  // Since when the store is back, what a bucket last used before has lost, and until when leases may be in
  // use that it does not know: of all the burst, and of half.
  #gap = '';
  #gapEnds = 0;
  #lost = 0;
  #emptyUntil = 0;
  #heldUntil = 0;

  constructor(limit: Limit, deadlineSeconds: number) {
    this.#limit = limit;
    this.#deadlineSeconds = deadlineSeconds;
  }

  /** The first argument of a script called `now`, by our clock. */
  text(now: number): string {
    // To write a number down takes as long as all the rest.
    if (now < this.#textUntil) return this.#text;
    this.#textUntil = now + LATE_SECONDS / 64;
    const time = now + this.#offset;
    if (this.#gap !== '' && time > this.#gapEnds) {
      this.#gap = '';
      this.#lost = 0;
    }
    const latest = time + this.#deadlineSeconds + LATE_SECONDS;
    this.#text = this.#gap === '' ? String(latest) : `${latest} ${this.#gap}`;
    return this.#text;
  }

  /** It is `storeTime` there, and `now` here. */
  isAt(storeTime: number, now: number): void {
    this.#offset = storeTime - now;
    this.#textUntil = 0;
  }

  /** The store is back since `storeTime`; meanwhile nobody was given more than `given` tokens. */
  isBack(storeTime: number, given: number): void {
    if (given === 0) return;
    this.#lost = Math.min(this.#lost + given, this.#limit.burstLimit);
    this.#gap = `${storeTime} ${this.#lost} ${this.#emptyUntil} ${this.#heldUntil}`;
    this.#gapEnds = storeTime + fullSeconds(this.#limit) + LATE_SECONDS;
    this.#textUntil = 0;
  }

  /** The store is back since `storeTime`, and knows nothing any more. */
  isBackEmpty(storeTime: number): void {
    // What was on lease before an earlier loss, and since, may be all of the burst together.
    this.#emptyUntil = Math.max(storeTime + this.#limit.dearSeconds, this.#heldUntil);
    this.#heldUntil = storeTime + this.#limit.leaseSeconds;
    this.isBack(storeTime, this.#limit.burstLimit);
  }
}
