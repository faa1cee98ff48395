// The token buckets of one node while the store is down: each node grants its share of the rate. The buckets were empty
// when the store went down, so all nodes together grant at most the rate from then on.

import { Buckets, MOST_KEYS } from '../../tables/table.js';
import { LEASED_SHARE, type Limit } from '../store/limit.js';

export class FallbackBuckets {
  readonly #rate: number;
  readonly #capacity: number;
  readonly #since: number;
  readonly #maxPeers: number;
  readonly #buckets = new Buckets();

  /** `nodes`: the number of nodes that share the rate. `since`: when the store went down, in seconds. */
  constructor(limit: Limit, nodes: number, maxPeers: number, since: number) {
    this.#rate = limit.rateLimit / nodes;
    // The rest of the burst may still be on lease.
    this.#capacity = Math.max(1, (limit.burstLimit * (1 - LEASED_SHARE)) / nodes);
    this.#maxPeers = Math.min(maxPeers, MOST_KEYS);
    this.#since = since;
  }

  /** Takes `cost` from the peer's bucket and returns 0, or returns the seconds until the bucket holds `cost`. */
  take(key: string, cost: number, now: number): number {
    const buckets = this.#buckets;
    const index = buckets.find(key) ?? this.#insert(key);
    if (index === undefined) return cost / this.#rate;
    if (buckets.consume(index, cost, now, this.#rate, this.#capacity)) return 0;
    return buckets.delaySeconds(index, cost, this.#rate, this.#capacity);
  }

  #insert(key: string): number | undefined {
    if (this.#buckets.size >= this.#maxPeers) return undefined;
    return this.#buckets.insert(key, 0, this.#since);
  }
}
