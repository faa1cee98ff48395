// The first argument of every script, in the store's time: until when the script may be executed; after an outage, what
// buckets must lose; and after the store's clock was set back, by how much. Knows nothing of the connection.

import type { DataLoss } from './heartbeat-scripts.js';
import { type Limit, maxRefillSeconds } from './limit.js';
import { LATE_SECONDS } from './timing.js';

/** Less is no step of the store's clock, but drift and the time that messages take. */
const STEP_SECONDS = 0.1;
/** A time before all others, for an argument that describes no outage. */
const NO_OUTAGE = '-1e300 0 -1e300 -1e300';

export class StoreClock {
  readonly #limit: Limit;
  readonly #deadlineSeconds: number;
  /** The store's time minus this process's, at least. */
  #offset = Number.NEGATIVE_INFINITY;
  #argument = '';
  #argumentEnds = 0;

  /** When the last outage ended; undefined if no bucket can still be affected by one. */
  #since: number | undefined;
  #outageEnds = 0;
  /** Tokens that a bucket loses that was last used before the store returned. */
  #lostTokens = 0;
  // Until when leases that the store has lost may hold all of the burst, and half of it.
  #emptyUntil = 0;
  #halfUntil = 0;
  /** The `since` of the last loss that was recorded. */
  #lossSince: number | undefined;

  /** By how many seconds, at least, the store's clock was set back last. */
  #setBack = 0;
  /** Until when buckets may have times of the clock as it was before. */
  #setBackEnds = 0;

  constructor(limit: Limit, deadlineSeconds: number) {
    this.#limit = limit;
    this.#deadlineSeconds = deadlineSeconds;
  }

  /** The first argument of a script that is called at `now`, this process's time. */
  argument(now: number): string {
    // Formatting a number takes as long as the rest of the call, so a text serves for a 64th of a second.
    if (now < this.#argumentEnds) return this.#argument;
    this.#argumentEnds = now + 1 / 64;
    const time = this.#timeAt(now);
    if (this.#since !== undefined && time > this.#outageEnds) {
      this.#since = undefined;
      this.#lostTokens = 0;
    }
    if (time > this.#setBackEnds) this.#setBack = 0;
    // Whole, since the server takes a tenth of a check's time to read a fraction.
    const latest = Math.floor(time + this.#deadlineSeconds + LATE_SECONDS);
    const outage =
      this.#since === undefined
        ? NO_OUTAGE
        : `${this.#since} ${this.#lostTokens} ${this.#emptyUntil} ${this.#halfUntil}`;
    const isPlain = this.#since === undefined && this.#setBack === 0;
    this.#argument = isPlain ? String(latest) : `${latest} ${outage} ${this.#setBack}`;
    return this.#argument;
  }

  /** Learns the store's time from a reply to a call that was sent and answered at two times of this process. */
  synchronize(storeTime: number, sentAt: number, answeredAt: number): void {
    const setBack = this.#offset - (storeTime - sentAt);
    if (setBack > STEP_SECONDS) this.#recordSetBack(storeTime, setBack);
    this.#offset = storeTime - answeredAt;
    this.#argumentEnds = 0;
  }

  /** Records that the store returned at `storeTime`, and that a peer got at most `givenTokens` in the meantime. */
  recordOutage(storeTime: number, givenTokens: number): void {
    if (givenTokens === 0) return;
    this.#lostTokens = Math.min(this.#lostTokens + givenTokens, this.#limit.burstLimit);
    this.#since = storeTime;
    this.#outageEnds = storeTime + maxRefillSeconds(this.#limit) + LATE_SECONDS;
    this.#argumentEnds = 0;
  }

  /** Records the loss of data that the store names at `storeTime`. False if it is known. */
  recordDataLoss({ since, emptyUntil, halfUntil }: DataLoss, storeTime: number): boolean {
    if (since === this.#lossSince) return false;
    this.#lossSince = since;
    // It was noticed before the store's clock was set back: what lies in the future counts as now.
    const ahead = Math.max(0, since - storeTime);
    this.#emptyUntil = emptyUntil - ahead;
    this.#halfUntil = halfUntil - ahead;
    this.recordOutage(since - ahead, this.#limit.burstLimit);
    return true;
  }

  /** Seconds from `now`, this process's time, for which lost leases may still hold half of the burst. */
  halfSeconds(now: number): number {
    return this.#since === undefined ? 0 : Math.max(0, this.#halfUntil - this.#timeAt(now));
  }

  #timeAt(now: number): number {
    return Number.isFinite(this.#offset) ? now + this.#offset : now;
  }

  /** What lies in the future since the store's clock was set back counts as now. */
  #recordSetBack(storeTime: number, seconds: number): void {
    this.#setBack = seconds;
    this.#setBackEnds = storeTime + seconds + LATE_SECONDS;
    if (this.#since === undefined || this.#since <= storeTime) return;
    const ahead = this.#since - storeTime;
    this.#since = storeTime;
    this.#emptyUntil -= ahead;
    this.#halfUntil -= ahead;
    this.#outageEnds -= ahead;
  }
}
