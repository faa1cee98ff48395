// A sliding log for one quota window: the exact units of the last `windowSeconds`.
//
// It is exact for whole costs up to 65,536 units per window. For larger quotas and small fractions, adjacent
// entries are merged under the time of the later one. So memory is bounded, and up to 1/65,536 of the quota
// counts slightly too long, never too short.

import type { Policy } from '../policies.js';
import { addSeconds } from '../time.js';
import { type QuotaWindow, readSavedNumbers } from './quotas.js';

const MAX_ENTRIES = 65_536;
// Snapshots are written often and need less precision.
const MAX_SAVED_ENTRIES = 1_024;
// Expired entries are removed if they are more than this and more than half of the log.
const TRIM_ENTRIES = 1_024;

export class SlidingWindow implements QuotaWindow {
  readonly #quota: number;
  readonly #windowSeconds: number;
  readonly #extraSeconds: () => number;
  #times: number[] = [];
  #costs: number[] = [];
  /** The index of the oldest entry that counts. */
  #head = 0;
  #used = 0;

  /** `extraSeconds` returns seconds by which the window is longer at present. */
  constructor({ quota, windowSeconds }: Policy, extraSeconds: () => number = () => 0) {
    this.#quota = quota;
    this.#windowSeconds = windowSeconds;
    this.#extraSeconds = extraSeconds;
  }

  static restore(
    policy: Policy,
    extraSeconds: (() => number) | undefined,
    saved: unknown,
    now: number,
  ): SlidingWindow | undefined {
    const numbers = readSavedNumbers(saved, isLog);
    if (numbers === undefined) return undefined;
    const window = new SlidingWindow(policy, extraSeconds);
    for (let index = 0; index < numbers.length; index += 2) {
      window.take(numbers[index + 1] as number, now + (numbers[index] as number));
    }
    return window;
  }

  readyAt(cost: number, now: number): number {
    this.#expire(now);
    const rounds = Math.max(0, Math.ceil(cost / this.#quota) - 1);
    const missing = this.#used + cost - rounds * this.#quota - this.#quota;
    let ready = missing > 0 ? now : -Infinity;
    let index = this.#head;
    for (let freed = 0; freed < missing && index < this.#times.length; index += 1) {
      freed += this.#costs[index] as number;
      ready = this.#expiryOf(this.#times[index] as number);
    }
    return rounds > 0 ? Math.max(ready, now) + rounds * this.#windowSeconds : ready;
  }

  take(cost: number, now: number): void {
    this.#expire(now);
    if (cost === 0) return;
    this.#used += cost;
    const last = this.#times.length - 1;
    const merged = last >= this.#head ? (this.#costs[last] as number) + cost : Infinity;
    if (merged <= this.#quota / MAX_ENTRIES || this.#times[last] === now) {
      this.#times[last] = now;
      this.#costs[last] = merged;
    } else {
      this.#times.push(now);
      this.#costs.push(cost);
    }
  }

  refund(cost: number, at: number, now: number): void {
    if (this.#expiryOf(at) <= now) return;
    // The take's entry has this time, or a later one if later takes were merged into it.
    const entry = this.#firstNotBefore(at);
    const counted = this.#costs[entry] ?? 0;
    this.#used -= Math.min(cost, counted);
    if (counted > cost) {
      this.#costs[entry] = counted - cost;
    } else {
      // Empty entries are removed, so that refunds cannot fill the log.
      this.#times.splice(entry, 1);
      this.#costs.splice(entry, 1);
    }
  }

  save(now: number): number[] {
    this.#expire(now);
    const saved: number[] = [];
    for (let index = this.#head; index < this.#times.length; index += 1) {
      const cost = this.#costs[index] as number;
      const age = (this.#times[index] as number) - now;
      const merged = (saved.at(-1) ?? Infinity) + cost;
      if (merged <= this.#quota / MAX_SAVED_ENTRIES) saved.splice(-2, 2, age, merged);
      else saved.push(age, cost);
    }
    return saved;
  }

  /** Returns the time at which an entry stops counting. */
  #expiryOf(time: number): number {
    return addSeconds(time, this.#windowSeconds + this.#extraSeconds());
  }

  #expire(now: number): void {
    const times = this.#times;
    while (this.#head < times.length && this.#expiryOf(times[this.#head] as number) <= now) {
      this.#used -= this.#costs[this.#head] as number;
      this.#head += 1;
    }
    // Sums of fractions accumulate rounding errors; an empty log resets them.
    if (this.#head === times.length) this.#used = 0;
    if (this.#head > TRIM_ENTRIES && this.#head * 2 > times.length) {
      this.#times = times.slice(this.#head);
      this.#costs = this.#costs.slice(this.#head);
      this.#head = 0;
    }
  }

  #firstNotBefore(time: number): number {
    let low = this.#head;
    let high = this.#times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#times[middle] as number) < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Whether the numbers are pairs of a relative time, ascending and at most 0, and a cost above 0. */
function isLog(numbers: number[]): boolean {
  return (
    numbers.length % 2 === 0 &&
    numbers.every((n, index) =>
      index % 2 === 0 ? n <= 0 && n >= (numbers[index - 2] ?? n) : n > 0,
    )
  );
}
