// Measures how much later one request reaches the upstream than another, by the times that answers take. The difference
// between the slowest and the fastest recent answer is at least as large. A server that takes different times itself
// makes it too large, so it is bounded: an exact value matters only where the network is fast.

/** The longest jitter that is assumed, in seconds. */
const MAX_SECONDS = 0.1;
/** Answers count for this long at least, and for twice as long at most. */
const PERIOD_SECONDS = 60;

interface Range {
  fastest: number;
  slowest: number;
}

export class JitterMeter {
  #current: Range = emptyRange();
  #previous: Range = emptyRange();
  #periodEndsAt = -Infinity;
  #seconds = 0;

  /** Records an answer that came `seconds` after its request. */
  add(seconds: number, now: number): void {
    if (now >= this.#periodEndsAt) {
      this.#previous = now >= this.#periodEndsAt + PERIOD_SECONDS ? emptyRange() : this.#current;
      this.#current = emptyRange();
      this.#periodEndsAt = now + PERIOD_SECONDS;
    }
    this.#current.fastest = Math.min(this.#current.fastest, seconds);
    this.#current.slowest = Math.max(this.#current.slowest, seconds);
    const fastest = Math.min(this.#current.fastest, this.#previous.fastest);
    const slowest = Math.max(this.#current.slowest, this.#previous.slowest);
    this.#seconds = Math.min(slowest - fastest, MAX_SECONDS);
  }

  /** The jitter in seconds; 0 before the second answer. */
  get seconds(): number {
    return this.#seconds;
  }
}

function emptyRange(): Range {
  return { fastest: Infinity, slowest: -Infinity };
}
