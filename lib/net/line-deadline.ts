// The time that the peer has to finish a line that it has begun.

export class LineDeadline {
  readonly #milliseconds: number | undefined;
  readonly #missed: () => void;
  #timer: NodeJS.Timeout | undefined;

  /** `milliseconds` undefined: no deadline. */
  constructor(milliseconds: number | undefined, missed: () => void) {
    this.#milliseconds = milliseconds;
    this.#missed = missed;
  }

  /** A line has begun. Later bytes of the line do not move its deadline. */
  begin(): void {
    if (this.#milliseconds === undefined || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => this.#fired(), this.#milliseconds).unref();
  }

  /** The line is complete, or nobody waits for it any more. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #fired(): void {
    this.#timer = undefined;
    this.#missed();
  }
}
