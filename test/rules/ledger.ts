// Checks that a rule never admits more than burst + rate x T.

/** Of sums of tokens. */
const ROUNDING = 1e-9;

/** What one rule has admitted of one key, and what it may have admitted, for each interval that began with an admission. */
export class Ledger {
  readonly #intervals: Interval[] = [];

  /** `limits`: of the plan that asked; `admitted`: 0 if the check was refused. */
  add(now: number, limits: { rate: number; burst: number }, admitted: number): void {
    if (admitted > 0) {
      this.#intervals.push({ from: now, until: now, rate: 0, burst: 0, admitted: 0 });
    }
    this.pass(now);
    for (const interval of this.#intervals) {
      interval.rate = Math.max(interval.rate, limits.rate);
      interval.burst = Math.max(interval.burst, limits.burst);
      interval.admitted += admitted;
    }
  }

  /** Time passes. If the clock has stepped back, the latest time of an interval counts: it may have refilled the bucket. */
  pass(now: number): void {
    for (const interval of this.#intervals) interval.until = Math.max(interval.until, now);
  }

  /** The first interval with more than burst + rate x T. */
  exceeded(): Interval | undefined {
    return this.#intervals.find(({ from, until, rate, burst, admitted }) => {
      return admitted > (burst + rate * (until - from)) * (1 + ROUNDING);
    });
  }
}

/** The largest rate and burst that asked in it. */
interface Interval {
  readonly from: number;
  until: number;
  rate: number;
  burst: number;
  admitted: number;
}
