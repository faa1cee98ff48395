// A sliding log for one quota window: what went in the last w seconds, to the unit.
//
// Exact for whole costs up to 65,536 units a window. Beyond that, and for small fractions, neighbours
// are kept as one, under the time of the later: memory stays bounded, and up to 1/65,536 of the quota
// is counted a little too long, never too short.

import type { Policy } from '../policies.js';
import { later } from '../time.js';
import { type QuotaWindow, savedNumbers } from './quotas.js';

const MOST_GROUPS = 65_536;
// A snapshot is written often, and need not be that exact.
const MOST_SAVED = 1_024;
// Entries that are gone are cut off when there are more of them than others, and so many.
const TRIM = 1_024;

export class SlidingWindow implements QuotaWindow {
  readonly #quota: number;
  readonly #windowSeconds: number;
  #times: number[] = [];
  #costs: number[] = [];
  /** The oldest entry that counts. */
  #head = 0;
  #used = 0;

  constructor({ quota, windowSeconds }: Policy) {
    this.#quota = quota;
    this.#windowSeconds = windowSeconds;
  }

  static restore(policy: Policy, saved: unknown, now: number): SlidingWindow | undefined {
    const numbers = savedNumbers(saved, isLog);
    if (numbers === undefined) return undefined;
    const window = new SlidingWindow(policy);
    for (let at = 0; at < numbers.length; at += 2) {
      window.take(numbers[at + 1] as number, now + (numbers[at] as number));
    }
    return window;
  }

  readyAt(cost: number, now: number): number {
    this.#expire(now);
    const rounds = Math.max(0, Math.ceil(cost / this.#quota) - 1);
    const missing = this.#used + cost - rounds * this.#quota - this.#quota;
    let ready = missing > 0 ? now : -Infinity;
    let at = this.#head;
    for (let freed = 0; freed < missing && at < this.#times.length; at += 1) {
      freed += this.#costs[at] as number;
      ready = this.#end(this.#times[at] as number);
    }
    return rounds > 0 ? Math.max(ready, now) + rounds * this.#windowSeconds : ready;
  }

  take(cost: number, now: number): void {
    this.#expire(now);
    if (cost === 0) return;
    this.#used += cost;
    const last = this.#times.length - 1;
    const open = last >= this.#head ? (this.#costs[last] as number) + cost : Infinity;
    if (open <= this.#quota / MOST_GROUPS || this.#times[last] === now) {
      this.#times[last] = now;
      this.#costs[last] = open;
    } else {
      this.#times.push(now);
      this.#costs.push(cost);
    }
  }

  giveBack(cost: number, at: number, now: number): void {
    if (this.#end(at) <= now) return;
    // Its group has that time or, joined by others, a later one.
    const group = this.#firstNotBefore(at);
    const counted = this.#costs[group] ?? 0;
    this.#used -= Math.min(cost, counted);
    if (counted > cost) {
      this.#costs[group] = counted - cost;
    } else {
      // Nothing of it is left, and nothing may stay: refunds must not fill the log.
      this.#times.splice(group, 1);
      this.#costs.splice(group, 1);
    }
  }

  save(now: number): number[] {
    this.#expire(now);
    const saved: number[] = [];
    for (let at = this.#head; at < this.#times.length; at += 1) {
      const cost = this.#costs[at] as number;
      const age = (this.#times[at] as number) - now;
      const open = (saved.at(-1) ?? Infinity) + cost;
      if (open <= this.#quota / MOST_SAVED) saved.splice(-2, 2, age, open);
      else saved.push(age, cost);
    }
    return saved;
  }

  #end(time: number): number {
    return later(time, this.#windowSeconds);
  }

  #expire(now: number): void {
    const times = this.#times;
    while (this.#head < times.length && this.#end(times[this.#head] as number) <= now) {
      this.#used -= this.#costs[this.#head] as number;
      this.#head += 1;
    }
    // Sums of fractions drift; nothing is nothing.
    if (this.#head === times.length) this.#used = 0;
    if (this.#head > TRIM && this.#head * 2 > times.length) {
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

/** Pairs of an age, rising and not after the snapshot, and a cost. */
function isLog(numbers: number[]): boolean {
  return (
    numbers.length % 2 === 0 &&
    numbers.every((n, at) => (at % 2 === 0 ? n <= 0 && n >= (numbers[at - 2] ?? n) : n > 0))
  );
}
