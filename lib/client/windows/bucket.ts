// A token bucket for one quota window: constant memory, and never over the quota in any interval as
// long as the window, whatever the phase of the server's.
//
// Capacity c = burstShare x q, refill (q - c) / w, so that no interval of length w sees more than
// c + (q - c) = q. All it remembers is when the bucket will be (or has been) full: a cost n takes
// n / rate seconds of refill, and may go when n tokens are there, (c - n) / rate seconds before it is
// full. For a cost above the capacity the same formula asks for a bucket that has been full for
// (n - c) / rate seconds; what would have been refilled in that time pays for what the capacity cannot,
// and the bucket is left in debt. So every cost up to the quota can be paid, and the bound still holds.
//
// Where the capacity would be less than one whole unit (a quota of 5 and a tenth), costs count in
// whole units, one at a time and evenly: c = 1 and floor(q) / w. Costs n1 ... nk of an interval shorter
// than w then add up to less than c + w x rate = floor(q) + 1, so to floor(q) at most.

import type { Policy } from '../policies.js';
import { later } from '../time.js';
import { type QuotaWindow, savedNumbers } from './quotas.js';

// Units that may be missing when a cost goes: more than what rounding takes away. Whole units leave no
// room for it.
const TOLERANCE = 1e-9;

export class BucketWindow implements QuotaWindow {
  readonly #capacity: number;
  readonly #secondsPerUnit: number;
  readonly #wholeUnits: boolean;
  readonly #tolerance: number;
  /** Seconds until it is full, counted from `#at`; negative where it has been. */
  #fullIn = -Infinity;
  #at = 0;
  #lastTake = -Infinity;

  constructor({ quota, windowSeconds }: Policy, burstShare: number) {
    this.#wholeUnits = quota >= 1 && quota * burstShare < 1;
    this.#capacity = this.#wholeUnits ? 1 : quota * burstShare;
    const unitsPerWindow = this.#wholeUnits ? Math.floor(quota) : quota - this.#capacity;
    // A division may have rounded down; a whole window of such steps must not be short of it.
    const up = unitsPerWindow === 1 ? 1 : 1 + 2 ** -51;
    this.#secondsPerUnit = (windowSeconds / unitsPerWindow) * up;
    this.#tolerance = this.#wholeUnits ? 0 : TOLERANCE * this.#secondsPerUnit;
  }

  static restore(
    policy: Policy,
    burstShare: number,
    saved: unknown,
    now: number,
  ): BucketWindow | undefined {
    const numbers = savedNumbers(saved, ({ length }) => length <= 1);
    if (numbers === undefined) return undefined;
    const window = new BucketWindow(policy, burstShare);
    // More than the whole quota cannot be missing.
    window.#fullIn = Math.min(numbers[0] ?? -Infinity, window.#refill(policy.quota));
    window.#at = now;
    return window;
  }

  readyAt(cost: number, now: number): number {
    const missing = this.#refill(cost) - this.#refill(this.#capacity);
    const ready = later(this.#at, this.#fullIn + missing);
    return ready - this.#tolerance <= now ? now : ready;
  }

  take(cost: number, now: number): void {
    if (cost === 0) return;
    this.#moveTo(now);
    this.#fullIn = Math.max(0, this.#fullIn) + this.#refill(cost);
    this.#lastTake = now;
  }

  // Had the take not been, the bucket would be full earlier by the cost's refill, unless it had been full
  // in the meantime and lost what came then. Later takes may have gone on the strength of what has been
  // refilled since this one: so much of it stays spent.
  giveBack(cost: number, at: number, now: number): void {
    this.#moveTo(now);
    const refilled = at === this.#lastTake ? 0 : now - at;
    const unspent = Math.min(this.#refill(cost) - refilled, this.#fullIn);
    if (unspent > 0) this.#fullIn -= unspent;
  }

  save(now: number): number[] {
    this.#moveTo(now);
    return this.#fullIn === -Infinity ? [] : [this.#fullIn];
  }

  #moveTo(now: number): void {
    this.#fullIn -= now - this.#at;
    this.#at = now;
  }

  /** Seconds in which `cost` is refilled. */
  #refill(cost: number): number {
    return (this.#wholeUnits ? Math.ceil(cost) : cost) * this.#secondsPerUnit;
  }
}
