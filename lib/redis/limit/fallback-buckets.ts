// What a node gives out by itself while the store is away: its share of the rate, from buckets that were
// empty when it went. All nodes together give out no more than the rate then.

import { Buckets, MOST_KEYS } from '../../engine/js/table.js';
import { LEASED_SHARE, type Limit } from '../store/limit-scripts.js';

export class Shares {
  readonly #rate: number;
  readonly #capacity: number;
  readonly #since: number;
  readonly #maxPeers: number;
  readonly #buckets = new Buckets();

  /** `nodes`: how many share the rate. `since`: when the store went. */
  constructor(limit: Limit, nodes: number, maxPeers: number, since: number) {
    this.#rate = limit.rateLimit / nodes;
    // The rest of the burst may be on lease still.
    this.#capacity = Math.max(1, (limit.burstLimit * (1 - LEASED_SHARE)) / nodes);
    this.#maxPeers = Math.min(maxPeers, MOST_KEYS);
    this.#since = since;
  }

  /** 0 if the cost is taken, else the seconds until it is there. */
  take(key: string, cost: number, now: number): number {
    const buckets = this.#buckets;
    const place = buckets.find(key) ?? this.#insert(key);
    if (place === undefined) return cost / this.#rate;
    if (buckets.consume(place, cost, now, this.#rate, this.#capacity)) return 0;
    return buckets.delaySeconds(place, cost, this.#rate, this.#capacity);
  }

  #insert(key: string): number | undefined {
    if (this.#buckets.size >= this.#maxPeers) return undefined;
    return this.#buckets.insert(key, 0, this.#since);
  }
}
