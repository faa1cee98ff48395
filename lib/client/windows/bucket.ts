// A token bucket for one quota window: constant memory, and never over the quota in any interval as
// long as the window, whatever the phase of the server's.
//
// Capacity c = burstShare x q, refill (q - c) / w, so that no interval of length w sees more than
// c + (q - c) = q. All it remembers is when the bucket will be (or has been) full: a cost n takes
// n / rate seconds of refill, and may go when n tokens are there, at fullAt - (c - n) / rate. For a
// cost above the capacity the same formula asks for a bucket that has been full for (n - c) / rate
// seconds; what would have been refilled in that time pays for what the capacity cannot, and the
// bucket is left in debt. So every cost up to the quota can be paid, and the bound still holds.
//
// Where the capacity would be less than one whole unit (a quota of 5 and a tenth), costs count in
// whole units, one at a time and evenly: c = 1 and floor(q) / w. Costs n1 ... nk of an interval shorter
// than w then add up to less than c + w x rate = floor(q) + 1, so to floor(q) at most.

import type { Policy } from '../policies.js';
import { later } from '../time.js';
import { type QuotaWindow, savedNumbers } from './quotas.js';

export class BucketWindow implements QuotaWindow {
  readonly #capacity: number;
  readonly #secondsPerUnit: number;
  readonly #wholeUnits: boolean;
  #fullAt: number;

  constructor({ quota, windowSeconds }: Policy, burstShare: number, fullAt = -Infinity) {
    this.#wholeUnits = quota >= 1 && quota * burstShare < 1;
    this.#capacity = this.#wholeUnits ? 1 : quota * burstShare;
    const rate = this.#wholeUnits
      ? Math.floor(quota) / windowSeconds
      : (quota - this.#capacity) / windowSeconds;
    // A division may have rounded down; a whole window of such steps must not be short of it.
    this.#secondsPerUnit = quota === 1 ? windowSeconds : (1 / rate) * (1 + 2 ** -51);
    this.#fullAt = fullAt;
  }

  static restore(
    policy: Policy,
    burstShare: number,
    saved: unknown,
    now: number,
  ): BucketWindow | undefined {
    const numbers = savedNumbers(saved, ({ length }) => length <= 1);
    if (numbers === undefined) return undefined;
    return new BucketWindow(policy, burstShare, now + (numbers[0] ?? -Infinity));
  }

  readyAt(cost: number): number {
    return later(this.#fullAt, (this.#charge(cost) - this.#capacity) * this.#secondsPerUnit);
  }

  take(cost: number, now: number): void {
    const seconds = this.#charge(cost) * this.#secondsPerUnit;
    this.#fullAt = later(Math.max(this.#fullAt, now), seconds);
  }

  receipt(): number {
    return this.#fullAt;
  }

  // Had the take not been, the bucket would have been full earlier by the cost's refill, but not
  // earlier than any later take: what has been refilled since then is gone already. `fullAt` as it was
  // after the take bounds that from below, since it only grows.
  giveBack(cost: number, fullAtThen: number, now: number): void {
    const seconds = this.#charge(cost) * this.#secondsPerUnit;
    this.#fullAt -= Math.min(seconds, Math.max(0, fullAtThen - now));
  }

  save(now: number): number[] {
    return this.#fullAt === -Infinity ? [] : [this.#fullAt - now];
  }

  #charge(cost: number): number {
    return this.#wholeUnits ? Math.ceil(cost) : cost;
  }
}
