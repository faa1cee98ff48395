// A token bucket for one quota window, in constant memory. It never exceeds the quota in any interval as long
// as the window, whatever the phase of the server's windows.
//
// With burst share b, quota q and window w, the capacity is c = b x q and the refill rate (q - c) / w. So an
// interval of length w contains at most c + (q - c) = q units.
//
// The state is the time at which the bucket is full. A cost n needs n / rate seconds of refill. It can be
// taken when n tokens are there, which is (c - n) / rate seconds before the bucket is full. For a cost above
// the capacity, the same formula requires a bucket that has been full for (n - c) / rate seconds: the refill
// of that time pays for what exceeds the capacity, and the take leaves the bucket in debt. So every cost up
// to the quota can be taken, and the bound still holds.
//
// If the capacity would be less than one unit (for example a quota of 5 and a burst share of 0.1), costs
// count in whole units, one at a time and evenly: c = 1 and rate = floor(q) / w. Then the costs of an interval
// shorter than w add up to less than c + w x rate = floor(q) + 1, which is at most floor(q).

import type { Policy } from '../policies.js';
import { addSeconds } from '../time.js';
import { type QuotaWindow, readSavedNumbers } from './quotas.js';

// Units that may be missing when a cost is taken, more than rounding can take away. Whole units need no
// tolerance, and their bound leaves no margin for one.
const TOLERANCE_UNITS = 1e-9;

export class BucketWindow implements QuotaWindow {
  readonly #capacity: number;
  readonly #secondsPerUnit: number;
  readonly #countsWholeUnits: boolean;
  readonly #toleranceSeconds: number;
  /** Seconds from `#updatedAt` until the bucket is full; negative if it was full before. */
  #fullIn = -Infinity;
  #updatedAt = 0;
  #lastTakeAt = -Infinity;

  constructor({ quota, windowSeconds }: Policy, burstShare: number) {
    this.#countsWholeUnits = quota >= 1 && quota * burstShare < 1;
    this.#capacity = this.#countsWholeUnits ? 1 : quota * burstShare;
    const unitsPerWindow = this.#countsWholeUnits ? Math.floor(quota) : quota - this.#capacity;
    // The division may round down; the steps of a whole window must not add up to less than the window.
    const roundUp = unitsPerWindow === 1 ? 1 : 1 + 2 ** -51;
    this.#secondsPerUnit = (windowSeconds / unitsPerWindow) * roundUp;
    this.#toleranceSeconds = this.#countsWholeUnits ? 0 : TOLERANCE_UNITS * this.#secondsPerUnit;
  }

  static restore(
    policy: Policy,
    burstShare: number,
    saved: unknown,
    now: number,
  ): BucketWindow | undefined {
    const numbers = readSavedNumbers(saved, ({ length }) => length <= 1);
    if (numbers === undefined) return undefined;
    const window = new BucketWindow(policy, burstShare);
    // At most the whole quota can be missing.
    window.#fullIn = Math.min(numbers[0] ?? -Infinity, window.#refillSeconds(policy.quota));
    window.#updatedAt = now;
    return window;
  }

  /** Returns the state of a window that has saved `state`, for another policy: as many units are missing. */
  static resize(state: readonly number[], from: Policy, to: Policy, burstShare: number): number[] {
    const ratio =
      new BucketWindow(to, burstShare).#secondsPerUnit /
      new BucketWindow(from, burstShare).#secondsPerUnit;
    return state.map((fullIn) => (fullIn > 0 ? fullIn * ratio : fullIn));
  }

  readyAt(cost: number, now: number): number {
    const missing = this.#refillSeconds(cost) - this.#refillSeconds(this.#capacity);
    const ready = addSeconds(this.#updatedAt, this.#fullIn + missing);
    return ready - this.#toleranceSeconds <= now ? now : ready;
  }

  take(cost: number, now: number): void {
    if (cost === 0) return;
    this.#advance(now);
    this.#fullIn = Math.max(0, this.#fullIn) + this.#refillSeconds(cost);
    this.#lastTakeAt = now;
  }

  // Without the take, the bucket would be full earlier by the cost's refill time, unless it was full since and
  // lost tokens. Later takes may have used what was refilled since the take, so that part stays spent.
  refund(cost: number, at: number, now: number, kept = 0): void {
    this.#advance(now);
    const refilled = at === this.#lastTakeAt ? 0 : now - at;
    const seconds = this.#refillSeconds(cost + kept) - this.#refillSeconds(kept);
    const unspent = Math.min(seconds - refilled, this.#fullIn);
    if (unspent > 0) this.#fullIn -= unspent;
  }

  save(now: number): number[] {
    this.#advance(now);
    return this.#fullIn === -Infinity ? [] : [this.#fullIn];
  }

  #advance(now: number): void {
    this.#fullIn -= now - this.#updatedAt;
    this.#updatedAt = now;
  }

  /** Returns the seconds in which `cost` is refilled. */
  #refillSeconds(cost: number): number {
    return (this.#countsWholeUnits ? Math.ceil(cost) : cost) * this.#secondsPerUnit;
  }
}
