// The circuit breaker of one node. After too many failures it sends no requests for a while, then one
// request, the probe. Each failed probe doubles the pause. It handles results and times only, no requests.

/** The share of recent failures that opens the breaker: five in a row after good answers. */
const FAILURE_THRESHOLD = 2 / 3;
const FIRST_PAUSE_SECONDS = 1;
const MAX_PAUSE_SECONDS = 60;
/** A probe without an answer blocks the next one for this long. */
const PROBE_TIMEOUT_SECONDS = 60;

/**
 * The state of a node's circuit breaker. `closed`: requests are sent; `open`: none are sent; `half-open`: the
 * next request is a probe.
 */
export type BreakerState = 'closed' | 'open' | 'half-open';

export class Breaker {
  readonly #random: () => number;
  #pauses = 0;
  #openUntil = -Infinity;
  #isOpen = false;
  #probe: object | undefined;
  #probeSentAt = -Infinity;

  constructor(random: () => number) {
    this.#random = random;
  }

  state(now: number): BreakerState {
    if (!this.#isOpen) return 'closed';
    return now < this.#openUntil ? 'open' : 'half-open';
  }

  /** Returns the earliest time at which the next request may be sent. */
  readyAt(): number {
    return this.#probe === undefined ? this.#openUntil : this.#probeSentAt + PROBE_TIMEOUT_SECONDS;
  }

  /** Records that a request is sent. */
  start(request: object, now: number): void {
    if (!this.#isOpen) return;
    this.#probe = request;
    this.#probeSentAt = now;
  }

  /** Records a good answer. While the breaker is open, only the answer to the probe counts. */
  succeed(request: object): void {
    if (!this.#isOpen || request !== this.#probe) return;
    this.#isOpen = false;
    this.#openUntil = -Infinity;
    this.#probe = undefined;
    this.#pauses = 0;
  }

  /** Records a failure. `failureShare` is the share of recent failures, this one included. */
  fail(request: object, failureShare: number, now: number): void {
    const opens = this.#isOpen ? request === this.#probe : failureShare >= FAILURE_THRESHOLD;
    if (!opens) return;
    const pause = Math.min(FIRST_PAUSE_SECONDS * 2 ** this.#pauses, MAX_PAUSE_SECONDS);
    this.#pauses += 1;
    this.#isOpen = true;
    this.#probe = undefined;
    // Random, so that many clients do not send their probes at the same time.
    this.#openUntil = now + (pause * (1 + this.#random())) / 2;
  }

  /** Records that a request ended without a known result. */
  end(request: object): void {
    if (request === this.#probe) this.#probe = undefined;
  }
}
