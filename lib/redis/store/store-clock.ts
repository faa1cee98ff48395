// The first argument of every script, in the store's time: until when the script may be executed and, after an outage,
// what buckets must lose. Knows nothing of the connection.

import { type Limit, maxRefillSeconds } from './limit.js';
import { LATE_SECONDS } from './timing.js';

export class StoreClock {
  readonly #limit: Limit;
  readonly #deadlineSeconds: number;
  /** The store's time minus this process's. */
  #offset = 0;
  #argument = '';
  #argumentEnds = 0;

  /** The part of the argument that describes outages; empty if no bucket can still be affected by one. */
  #outage = '';
  #outageEnds = 0;
  /** Tokens that a bucket loses that was last used before the store returned. */
  #lostTokens = 0;
  // Until when leases that the store has lost may hold all of the burst, and half of it.
  #emptyUntil = 0;
  #halfUntil = 0;

  constructor(limit: Limit, deadlineSeconds: number) {
    this.#limit = limit;
    this.#deadlineSeconds = deadlineSeconds;
  }

  /** The first argument of a script that is called at `now`, this process's time. */
  argument(now: number): string {
    // Formatting a number takes as long as the rest of the call, so a text serves for a 64th of a second.
    if (now < this.#argumentEnds) return this.#argument;
    this.#argumentEnds = now + LATE_SECONDS / 64;
    const time = now + this.#offset;
    if (this.#outage !== '' && time > this.#outageEnds) {
      this.#outage = '';
      this.#lostTokens = 0;
    }
    const latest = time + this.#deadlineSeconds + LATE_SECONDS;
    this.#argument = this.#outage === '' ? String(latest) : `${latest} ${this.#outage}`;
    return this.#argument;
  }

  /** Sets the store's time at `now`, this process's time. */
  synchronize(storeTime: number, now: number): void {
    this.#offset = storeTime - now;
    this.#argumentEnds = 0;
  }

  /** Records that the store returned at `storeTime`, and that a peer got at most `givenTokens` in the meantime. */
  recordOutage(storeTime: number, givenTokens: number): void {
    if (givenTokens === 0) return;
    this.#lostTokens = Math.min(this.#lostTokens + givenTokens, this.#limit.burstLimit);
    this.#outage = `${storeTime} ${this.#lostTokens} ${this.#emptyUntil} ${this.#halfUntil}`;
    this.#outageEnds = storeTime + maxRefillSeconds(this.#limit) + LATE_SECONDS;
    this.#argumentEnds = 0;
  }

  /** Records that the store returned at `storeTime` without its data. */
  recordDataLoss(storeTime: number): void {
    // Leases from before an earlier loss and leases granted since may together hold all of the burst.
    this.#emptyUntil = Math.max(storeTime + this.#limit.shortLeaseSeconds, this.#halfUntil);
    this.#halfUntil = storeTime + this.#limit.leaseSeconds;
    this.recordOutage(storeTime, this.#limit.burstLimit);
  }
}
