// Recovery from refusals: when no requests are sent, and how their number grows again.
//
// A block ends with one request, the probe. Each good answer, which is one that is no refusal, then allows two
// more requests, so that the waiting requests are not all sent at once. If answers take long, the number of requests
// doubles every second. A refusal that gives no time causes an
// exponential backoff with full jitter and halves the rate, which each good answer raises again by one step.

/** The maximum of the first backoff, in seconds. It doubles with each consecutive refusal. */
const FIRST_BACKOFF_SECONDS = 1;
/**
 * The number of requests after a block also doubles after this long without answers: slow answers must not hold up the
 * requests that wait.
 */
const ANSWER_SECONDS = 1;
/** The good answers after which the ramp ends: 1 + 2 + 4 + 8. */
const RAMP_ANSWERS = 15;
const RATE_STEP = 1 / 64;
const MIN_RATE_SHARE = 1 / 64;

export class Recovery {
  #unitsPerSecond: number;
  readonly #maxWaitSeconds: number;
  readonly #random: () => number;
  #blockedUntil = -Infinity;
  /** The number of the last request before the last block. */
  #lastBeforeBlock = -Infinity;
  /** The number of requests that can be sent before the next answer. */
  #allowance = Infinity;
  #goodAnswers = 0;
  #consecutiveRefusals = 0;
  /** The share of the rate in use. */
  #rateShare = 1;
  /** The time until which the last request uses up that rate. */
  #pacedUntil = -Infinity;
  #lastTakeAt = -Infinity;
  #lastNumber = -Infinity;

  /** @param unitsPerSecond the rate that the policies allow in the long run */
  constructor(unitsPerSecond: number, maxWaitSeconds: number, random: () => number) {
    this.#unitsPerSecond = unitsPerSecond;
    this.#maxWaitSeconds = maxWaitSeconds;
    this.#random = random;
  }

  setRate(unitsPerSecond: number): void {
    this.#unitsPerSecond = unitsPerSecond;
  }

  get blockedUntil(): number {
    return this.#blockedUntil;
  }

  /** Whether the number of requests is still limited after a block. */
  get isRamping(): boolean {
    return this.#allowance < Infinity;
  }

  /** Whether requests are limited by their number or pace. */
  get isLimiting(): boolean {
    return this.isRamping || this.#rateShare < 1;
  }

  get rateShare(): number {
    return this.#rateShare;
  }

  readyAt(): number {
    const ready = Math.max(this.#blockedUntil, this.#pacedUntil);
    return this.#allowance < 1 ? Math.max(ready, this.#lastTakeAt + ANSWER_SECONDS) : ready;
  }

  take(cost: number, number: number, now: number): void {
    this.#lastTakeAt = now;
    this.#lastNumber = number;
    if (this.#allowance < 1) this.#rampUp(this.#goodAnswers + 1);
    this.#allowance -= 1;
    if (this.#rateShare === 1) return;
    const seconds = cost / (this.#unitsPerSecond * this.#rateShare);
    this.#pacedUntil = now + Math.min(seconds, this.#maxWaitSeconds);
  }

  /** Undoes the take of a request that was never sent. */
  refund(number: number): void {
    if (this.#isAfterBlock(number)) this.#allowance += 1;
    // If other requests were sent since, the pace of this one has ended.
    if (number === this.#lastNumber) this.#pacedUntil = -Infinity;
  }

  /**
   * Blocks the upstream for `seconds`, at most `maxWaitSeconds`; then a probe is sent. `lastNumber` is the
   * number of the last request.
   */
  block(seconds: number, lastNumber: number, now: number): void {
    const until = now + Math.min(seconds, this.#maxWaitSeconds);
    this.#blockedUntil = Math.max(this.#blockedUntil, until);
    this.#lastBeforeBlock = lastNumber;
    this.startWithProbe();
  }

  /** Allows one request, the probe, and more with each good answer, as after a block. */
  startWithProbe(): void {
    this.#allowance = 1;
    this.#goodAnswers = 0;
  }

  /** Records a refusal that gives no time. `number` is that of the refused request, if it is known. */
  onRefusal(number: number | undefined, lastNumber: number, now: number): void {
    // Refusals of requests that were under way when the block began are no news.
    if (now < this.#blockedUntil || !this.#isAfterBlock(number)) return;
    const maxBackoff = FIRST_BACKOFF_SECONDS * 2 ** this.#consecutiveRefusals;
    this.#consecutiveRefusals += 1;
    this.#rateShare = Math.max(this.#rateShare / 2, MIN_RATE_SHARE);
    this.block(this.#random() * Math.min(maxBackoff, this.#maxWaitSeconds), lastNumber, now);
  }

  /** Records an answer that is no refusal. `number` is that of the answered request, if it is known. */
  onGoodAnswer(number: number | undefined, now: number): void {
    if (now < this.#blockedUntil || !this.#isAfterBlock(number)) return;
    this.#consecutiveRefusals = 0;
    this.#rateShare = Math.min(1, this.#rateShare + RATE_STEP);
    if (this.isRamping) this.#rampUp(1);
  }

  #rampUp(answers: number): void {
    this.#goodAnswers += answers;
    this.#allowance = this.#goodAnswers < RAMP_ANSWERS ? this.#allowance + 2 * answers : Infinity;
  }

  #isAfterBlock(number: number | undefined): boolean {
    return number === undefined || number > this.#lastBeforeBlock;
  }
}
