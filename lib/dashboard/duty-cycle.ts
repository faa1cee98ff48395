// DutyCycle: expensive reads run less often.

/** Limits the share of time that expensive work takes: after each run it waits for 49 times its duration. */
export class DutyCycle {
  #notBefore = 0;

  /** Returns undefined, without running `work`, if it is not due and `force` is false. */
  run<T>(work: () => T, force = false): T | undefined {
    const started = performance.now();
    if (started < this.#notBefore && !force) return undefined;
    const result = work();
    const ended = performance.now();
    this.#notBefore = ended + 49 * (ended - started);
    return result;
  }
}
