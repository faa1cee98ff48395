// Whether the reports of a server agree on the time of a reset. Those of a window without a fixed end move it on and on.

import type { SavedAgreement } from './server-report.js';

/**
 * A reset is confirmed if reports agree on it for this long: those of a window without a fixed end would have moved it by
 * as much.
 */
const CONFIRMING_SECONDS = 10;
/** How much the resets of reports may differ that are rounded to whole seconds and were under way. */
const AGREEING_SECONDS = 2;

export class ResetAgreement {
  /** The reset on which reports agree, and the times of the first and the last of them. */
  #reset = -Infinity;
  #since = Infinity;
  #until = -Infinity;

  /** Records a report. `isAssumed`: the server gave no reset. */
  add(reset: number, isAssumed: boolean, now: number): void {
    const isVague = isAssumed || isTooFar(reset);
    if (isVague || Math.abs(reset - this.#reset) > AGREEING_SECONDS) {
      this.#reset = reset;
      this.#since = now;
    }
    this.#until = isVague ? -Infinity : now;
  }

  get isConfirmed(): boolean {
    return this.#until - this.#since >= CONFIRMING_SECONDS;
  }

  /** Returns what a snapshot keeps; undefined if there is no reset in the future on which reports agree. */
  save(now: number): SavedAgreement | undefined {
    if (this.#until < this.#since || this.#reset <= now) return undefined;
    return { resetSeconds: this.#reset - now, seconds: this.#until - this.#since };
  }

  /** Restores what `save` returned `elapsed` seconds ago. */
  restore({ resetSeconds, seconds }: SavedAgreement, elapsed: number, now: number): void {
    const reset = now + resetSeconds - elapsed;
    if (isTooFar(reset)) return;
    this.#reset = reset;
    this.#since = now - seconds;
    this.#until = now;
  }
}

/** So far away, numbers are the same a second later: two reports of it do not agree, they cannot differ. */
function isTooFar(reset: number): boolean {
  return reset >= Number.MAX_SAFE_INTEGER;
}
