// How an upstream is left alone after it has refused, and how it is approached again.
//
// A block ends with one request, the probe; each answer that is no refusal then lets two more go, so
// that all who waited do not come back at once. A refusal that says nothing else is answered by an
// exponential backoff with full jitter, and by half the rate, which comes back a step with each answer.

/** Most seconds of the first backoff; doubled with each refusal in a row. */
const FIRST_BACKOFF_SECONDS = 1;
/** An answer that is not heard within this time counts as a good one. */
const ANSWER_SECONDS = 10;
/** Good answers after which nothing is held back any more: 1 + 2 + 4 + 8. */
const RAMP_ANSWERS = 15;
const RATE_STEP = 1 / 64;
const SMALLEST_SHARE = 1 / 64;

export class Recovery {
  readonly #rate: number;
  readonly #maxWaitSeconds: number;
  readonly #random: () => number;
  #blockedUntil = -Infinity;
  /** The last request before the last block. */
  #lastBefore = -Infinity;
  /** Requests that may go before the next answer. */
  #allowance = Infinity;
  #answers = 0;
  #refusals = 0;
  /** The share of the rate that is used, and until when the last request takes it up. */
  #share = 1;
  #pacedUntil = -Infinity;
  #lastTake = -Infinity;
  #lastNumber = -Infinity;

  /** `rate`: units a second that the policies allow in the long run. */
  constructor(rate: number, maxWaitSeconds: number, random: () => number) {
    this.#rate = rate;
    this.#maxWaitSeconds = maxWaitSeconds;
    this.#random = random;
  }

  get blockedUntil(): number {
    return this.#blockedUntil;
  }

  /** Whether requests are still held back after a block. */
  get ramping(): boolean {
    return this.#allowance < Infinity;
  }

  get share(): number {
    return this.#share;
  }

  readyAt(): number {
    const ready = Math.max(this.#blockedUntil, this.#pacedUntil);
    return this.#allowance < 1 ? Math.max(ready, this.#lastTake + ANSWER_SECONDS) : ready;
  }

  take(cost: number, number: number, now: number): void {
    this.#lastTake = now;
    this.#lastNumber = number;
    if (this.#allowance < 1) this.#rampUp();
    this.#allowance -= 1;
    if (this.#share === 1) return;
    const seconds = cost / (this.#rate * this.#share);
    this.#pacedUntil = now + Math.min(seconds, this.#maxWaitSeconds);
  }

  /** The request of that number never reached the upstream. */
  giveBack(number: number): void {
    if (this.#isAfterBlock(number)) this.#allowance += 1;
    // Where others have gone since, its time is over.
    if (number === this.#lastNumber) this.#pacedUntil = -Infinity;
  }

  /**
   * The upstream wants to be left alone for `seconds`; after the longest wait it is asked anyway. `last`:
   * the number of the last request.
   */
  block(seconds: number, last: number, now: number): void {
    const until = now + Math.min(seconds, this.#maxWaitSeconds);
    this.#blockedUntil = Math.max(this.#blockedUntil, until);
    this.#lastBefore = last;
    this.#allowance = 1;
    this.#answers = 0;
  }

  /** The upstream refused the request of that number, if it is known, and said no time. */
  refused(number: number | undefined, last: number, now: number): void {
    // Those that were under way when the block began say nothing new.
    if (now < this.#blockedUntil || !this.#isAfterBlock(number)) return;
    const most = Math.min(FIRST_BACKOFF_SECONDS * 2 ** this.#refusals, this.#maxWaitSeconds);
    this.#refusals += 1;
    this.#share = Math.max(this.#share / 2, SMALLEST_SHARE);
    this.block(this.#random() * most, last, now);
  }

  /** The upstream answered, and did not refuse. */
  answered(number: number | undefined, now: number): void {
    if (now < this.#blockedUntil || !this.#isAfterBlock(number)) return;
    this.#refusals = 0;
    this.#share = Math.min(1, this.#share + RATE_STEP);
    if (this.ramping) this.#rampUp();
  }

  #rampUp(): void {
    this.#answers += 1;
    this.#allowance = this.#answers < RAMP_ANSWERS ? this.#allowance + 2 : Infinity;
  }

  #isAfterBlock(number: number | undefined): boolean {
    return number === undefined || number > this.#lastBefore;
  }
}
