// When a node that fails is left alone, and how it is tried again: for a time that doubles from one
// failed try to the next nothing goes there, then one request, the probe. It knows results and times;
// no requests.

/** The share of failures, lately, from which a node is left alone: five in a row after good ones. */
const TOO_MANY = 2 / 3;
const FIRST_PAUSE_SECONDS = 1;
const LONGEST_PAUSE_SECONDS = 60;
/** A probe of which nothing is heard for so long does not count any more. */
const ANSWER_SECONDS = 60;

export type BreakerState = 'closed' | 'open' | 'half-open';

export class Breaker {
  readonly #random: () => number;
  #pauses = 0;
  #openUntil = -Infinity;
  #isOpen = false;
  #probe: object | undefined;
  #probeAt = -Infinity;

  constructor(random: () => number) {
    this.#random = random;
  }

  state(now: number): BreakerState {
    if (!this.#isOpen) return 'closed';
    return now < this.#openUntil ? 'open' : 'half-open';
  }

  /** When the next request may go. */
  readyAt(): number {
    return this.#probe === undefined ? this.#openUntil : this.#probeAt + ANSWER_SECONDS;
  }

  /** A request goes. */
  take(request: object, now: number): void {
    if (!this.#isOpen) return;
    this.#probe = request;
    this.#probeAt = now;
  }

  /** Of those that were under way when it opened, only the probe counts. */
  answered(request: object): void {
    if (!this.#isOpen || request !== this.#probe) return;
    this.#isOpen = false;
    this.#openUntil = -Infinity;
    this.#probe = undefined;
    this.#pauses = 0;
  }

  /** `failures`: their share lately, this one included. */
  failed(request: object, failures: number, now: number): void {
    const opens = this.#isOpen ? request === this.#probe : failures >= TOO_MANY;
    if (!opens) return;
    const pause = Math.min(FIRST_PAUSE_SECONDS * 2 ** this.#pauses, LONGEST_PAUSE_SECONDS);
    this.#pauses += 1;
    this.#isOpen = true;
    this.#probe = undefined;
    // Not all clients come back at once.
    this.#openUntil = now + (pause * (1 + this.#random())) / 2;
  }

  /** A request ended of which nothing is known. */
  ended(request: object): void {
    if (request === this.#probe) this.#probe = undefined;
  }
}
